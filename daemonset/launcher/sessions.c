/* Has a restored root keep the processes whose parents end, as it did before, from its first moment on.
 *
 * CRIU brings a process into a session whose leader has ended by a helper that leads it and ends. Its children then
 * go to the nearest process above that keeps others' orphans (PR_SET_CHILD_SUBREAPER), which the root is again only
 * in its last step: they would go to the capsule's first process, and out of the tree. So the root becomes one where
 * it asks for its own session. That is the only child of the CRIU that loads this.
 *
 * Preloaded into a restoring CRIU where a job has such sessions; see crikpy/criu/preloading.py. Of the C library it
 * uses errno alone, for it is loaded beside whichever one CRIU has.
 */
#ifdef __x86_64__
#define _GNU_SOURCE
#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { FIRST_ERROR = -4095 };

static long loader;

static long enter_kernel(long number, long a, long b)
{
    __asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b) : "rcx", "r11", "memory");
    return number;
}

__attribute__((constructor)) static void remember(void)
{
    loader = enter_kernel(SYS_getpid, 0, 0);
}

__attribute__((visibility("default"))) int setsid(void);

int setsid(void)
{
    const long result = enter_kernel(SYS_setsid, 0, 0);

    if (enter_kernel(SYS_getppid, 0, 0) == loader)
        enter_kernel(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
    if (result >= FIRST_ERROR && result < 0) {
        errno = (int)-result;
        return -1;
    }
    return (int)result;
}
#endif
