/* Has a dumping CRIU end at once where it calls exit.
 *
 * When the job is disturbed while CRIU's code is inside it, as by the launcher that lets it go on after its agent's
 * death, CRIU calls exit from a signal handler (sigchld_handler in criu/parasite-syscall.c). A library's last act is
 * to free a locale (p11-kit's, which comes with GnuTLS), and strerror, which CRIU may be in just then, has locked
 * them all: CRIU waits for itself for ever, and the job, held by ptrace, with it. Ended at once, CRIU lets go of
 * everything: the code inside the job puts back what it found as soon as its connection breaks.
 *
 * Preloaded into a dumping CRIU; see crikpy/criu/preloading.py. It uses no library, for it is loaded beside
 * whichever libc CRIU has. Nothing is lost: CRIU writes its log and its images without buffers of the C library.
 */
#ifdef __x86_64__
enum { SYS_EXIT_GROUP = 231 };

__attribute__((visibility("default"), noreturn)) void exit(int status)
{
    for (;;) {
        long result = SYS_EXIT_GROUP;
        __asm__ volatile("syscall" : "+a"(result) : "D"((long)status) : "rcx", "r11", "memory");
    }
}
#endif
