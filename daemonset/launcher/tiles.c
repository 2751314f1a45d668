/* Asks for the permission to use AMX's tile registers, for whatever process loads this, and for its children.
 *
 * The kernel gives them only to a process that asks, and what CRIU restores is a new process that never did: its
 * next tile instruction would end it with SIGILL. So CRIU is started with this preloaded where a job may have
 * asked; see crikpy/criu/tiles.py. It uses no library, for it is loaded beside whichever libc CRIU has, and is
 * silent: a kernel or a CPU without tiles refuses, and there nothing is lost.
 */
#ifdef __x86_64__
enum { SYS_ARCH_PRCTL = 158, ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

__attribute__((constructor)) static void ask(void)
{
    long result = SYS_ARCH_PRCTL;
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"((long)ARCH_REQ_XCOMP_PERM), "S"((long)XFEATURE_XTILEDATA)
                     : "rcx", "r11", "memory");
    (void)result;
}
#endif
