/* libFuzzer's way into the launcher: hostile peers, endings, signals and time in any order, with no process harmed.
 * launch.c is taken in as it is; what it asks of the kernel about processes and time is answered here. Built and run
 * by hack/fuzz, with clang's sanitizers.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHILDREN = 4, FIRST_PID = 100 };

static jmp_buf ended;
static int ended_with, alive[CHILDREN];
static long long clock_ms;

static _Noreturn void fake_exit(int status)
{
    ended_with = status;
    longjmp(ended, 1);
}

static pid_t fake_fork(void)
{
    alive[0] = 1;
    return FIRST_PID;
}

static int fake_kill(pid_t pid, int signo)
{
    assert(pid == -1 || (pid >= FIRST_PID && pid < FIRST_PID + CHILDREN)); /* never a group, never a stranger */
    if (signo == SIGKILL) memset(alive, 0, sizeof alive);
    return 0;
}

/* Children end by `fuzz` marking them so; -1 is one that has ended and waits to be reaped. */
static pid_t fake_waitpid(pid_t pid, int *how, int options)
{
    assert(pid == -1 && options == WNOHANG);
    bool remain = false;
    for (int i = 0; i < CHILDREN; i++) {
        remain = remain || alive[i] > 0;
        if (alive[i] >= 0) continue;
        alive[i] = 0, *how = 7 << 8;
        return FIRST_PID + i;
    }
    return remain ? 0 : -1;
}

static int fake_waitid(idtype_t type, id_t pid, siginfo_t *info, int options)
{
    assert(type == P_PID && options == (WEXITED | WNOHANG | WNOWAIT) && info);
    return pid >= FIRST_PID && pid < FIRST_PID + CHILDREN && alive[pid - FIRST_PID] ? 0 : -1;
}

static int fake_clock(clockid_t clock, struct timespec *time)
{
    assert(clock == CLOCK_MONOTONIC);
    *time = (struct timespec){.tv_sec = clock_ms / 1000, .tv_nsec = clock_ms % 1000 * 1000000};
    return 0;
}

#define main launcher_main
#define exit fake_exit
#define fork fake_fork
#define kill fake_kill
#define waitpid fake_waitpid
#define waitid fake_waitid
#define clock_gettime fake_clock
#define getpid() 1
#define usleep(time) ((void)(time))
#include "../launch.c"
#undef main
#undef exit

static int ours[PEERS], signals[2];

static void reset(void)
{
    for (int i = 0; i < PEERS; i++) peers[i] = (struct peer){.fd = -1}, ours[i] = -1;
    memset(past, 0, sizeof past), memset(alive, 0, sizeof alive);
    state = WAITING, term = QUIET, holder = keeper = NULL, job = 0, job_status = exit_status = -1, resumptions = 0;
    agent_wait = 30000, term_wait = 2000, term_until = resume_at = 0, clock_ms = 1000, start_at = clock_ms + agent_wait;
    command = (char *[]){"job", NULL};
}

static void come(int which)
{
    int pair[2];
    if (peers[which].fd >= 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair)) return;
    if (ours[which] >= 0) close(ours[which]);
    peers[which] = (struct peer){.fd = pair[0]}, ours[which] = pair[1];
}

/* All that it says is whole lines of plain words. */
static void listen_to(int which)
{
    char said[65536];
    const ssize_t got = ours[which] < 0 ? 0 : recv(ours[which], said, sizeof said, MSG_DONTWAIT);
    assert(got <= 0 || said[got - 1] == '\n');
    for (ssize_t i = 0; i < got; i++) assert(said[i] == '\n' || (said[i] >= ' ' && said[i] <= '~'));
}

static void check(void)
{
    assert(!holder || (holder >= peers && holder < peers + PEERS));
    assert(term != KEPT || (keeper >= peers && keeper < peers + PEERS));
    assert(state != RUNNING || job > 0);
    assert(exit_status >= -1 && exit_status <= 255);
    for (int i = 0; i < PEERS; i++) assert(peers[i].used <= LINE);
}

/* One step: what the first byte says, with the bytes after it; returns how many of these it took. */
static size_t step(uint8_t what, const uint8_t *data, size_t size)
{
    const int which = what >> 3 & 1, child = what >> 4 & 3;
    size_t taken = 0;
    switch (what & 7) {
    case 0: come(which); break;
    case 1:
        if (ours[which] >= 0) close(ours[which]), ours[which] = -1;
        break;
    case 2: if (alive[child] > 0) alive[child] = -1, reap(); break;
    case 3: if (state == WAITING && holder) alive[child] = 1; break; /* a restore makes children */
    case 4: clock_ms += 1LL << (what >> 3 & 15); break;
    case 5: {
        const struct signalfd_siginfo got = {.ssi_signo = what >> 4 & 1 ? SIGTERM : SIGUSR1};
        if (write(signals[1], &got, sizeof got) == sizeof got) hear_signals(signals[0]);
        break;
    }
    default:
        taken = size && data[0] < size ? 1u + data[0] : size;
        if (taken && ours[which] >= 0 && send(ours[which], data + 1, taken - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) break;
    }
    for (int i = 0; i < 2; i++)
        if (peers[i].fd >= 0) hear(&peers[i]);
    return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    volatile size_t at = 0;
    if (!signals[1] && pipe2(signals, O_NONBLOCK)) abort();
    reset();
    if (!setjmp(ended)) {
        while (at < size) {
            const uint8_t what = data[at];
            at = at + 1;
            at = at + step(what, data + at, size - at);
            settle();
            check();
            for (int i = 0; i < 2; i++) listen_to(i);
        }
    } else {
        /* It ends with its job, unless a SIGTERM came before there was one. */
        assert((state == ENDED && !holder) || (state == WAITING && ended_with == 128 + SIGTERM));
    }
    for (int i = 0; i < PEERS; i++) {
        drop(&peers[i]);
        if (ours[i] >= 0) close(ours[i]);
    }
    return 0;
}
