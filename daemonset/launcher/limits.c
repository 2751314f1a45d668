/* Tells CRIU the resource limits of another user's process where the kernel refuses to: without CAP_SYS_RESOURCE,
 * prlimit answers only for processes of one's own uid (kernel/sys.c, check_prlimit_permission), but everybody may
 * read the same numbers in /proc/PID/limits.
 *
 * CRIU asks by `syscall`, of which this is another one: it is the C library's, but for that one answer. Preloaded
 * into a dumping CRIU where the capability is lacking; see crikpy/criu/preloading.py. It trusts in /proc as CRIU
 * itself does. Of the C library it uses errno alone, for it is loaded beside whichever one CRIU has.
 */
#ifdef __x86_64__
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum {
    NAME_COLUMNS = 26, /* of a line, before its numbers (fs/proc/base.c, proc_pid_limits) */
    TEXT_BYTES = 4096, /* three times what the kernel writes */
    FIRST_ERROR = -4095,
};

static long enter_kernel(long number, long a, long b, long c, long d, long e, long f)
{
    register long fourth __asm__("r10") = d;
    register long fifth __asm__("r8") = e;
    register long sixth __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    return number;
}

/* append: copy a word without its end, and return where the next one goes. */
static char *append(char *to, const char *word)
{
    while (*word != '\0')
        *to++ = *word++;
    return to;
}

/* read_limits: the text of /proc/PID/limits, up to room - 1 bytes; empty if it cannot be read. */
static void read_limits(unsigned int pid, char *text, long room)
{
    char digits[12], path[32], *first = digits + sizeof(digits) - 1, *end;
    long length = 0, count;

    *first = '\0';
    do
        *--first = (char)('0' + pid % 10);
    while ((pid /= 10) != 0);
    end = append(append(append(path, "/proc/"), first), "/limits");
    *end = '\0';

    long file = enter_kernel(SYS_open, (long)path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0, 0, 0, 0);
    if (file >= 0) {
        while ((count = enter_kernel(SYS_read, file, (long)(text + length), room - 1 - length, 0, 0, 0)) > 0)
            length += count;
        enter_kernel(SYS_close, file, 0, 0, 0, 0, 0);
    }
    text[length] = '\0';
}

/* read_number: the number or "unlimited" after some spaces, and where it ends; NULL if there is neither. */
static const char *read_number(const char *at, unsigned long *number)
{
    const char *word = "unlimited";

    while (*at == ' ')
        at++;
    if (*at == *word) {
        for (; *word != '\0'; word++)
            if (*at++ != *word)
                return NULL;
        *number = RLIM64_INFINITY;
        return at;
    }
    if (*at < '0' || *at > '9')
        return NULL;
    for (*number = 0; *at >= '0' && *at <= '9'; at++)
        *number = *number * 10 + (unsigned long)(*at - '0');
    return at;
}

/* look_up: fill in one limit. The lines come in the order of the limits' numbers, below a line of titles. */
static long look_up(unsigned int pid, unsigned int resource, struct rlimit64 *found)
{
    char text[TEXT_BYTES];
    const char *at = text;
    unsigned long soft, hard;

    read_limits(pid, text, sizeof(text));
    for (unsigned int line = 0; line <= resource; line++) {
        while (*at != '\n' && *at != '\0')
            at++;
        if (*at++ == '\0')
            return -EPERM;
    }
    for (int column = 0; column < NAME_COLUMNS; column++)
        if (*at++ == '\0')
            return -EPERM;
    if ((at = read_number(at, &soft)) == NULL || read_number(at, &hard) == NULL)
        return -EPERM;
    found->rlim_cur = soft;
    found->rlim_max = hard;
    return 0;
}

__attribute__((visibility("default"))) long syscall(long number, long a, long b, long c, long d, long e, long f);

long syscall(long number, long a, long b, long c, long d, long e, long f)
{
    long result = enter_kernel(number, a, b, c, d, e, f);

    if (result == -EPERM && number == SYS_prlimit64 && c == 0 && d != 0)
        result = look_up((unsigned int)a, (unsigned int)b, (struct rlimit64 *)d);
    if (result >= FIRST_ERROR && result < 0) {
        errno = (int)-result;
        return -1;
    }
    return result;
}
#endif
