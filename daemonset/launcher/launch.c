/* crikpy's launcher, the first process of a capsule: starts the job when the node's agent says so, or adopts a
 * restored one, reaps, passes signals on and exits with the job's status. It has no privilege, and whatever its
 * socket brings, the job is never worse off than without it. The protocol, byte for byte: docs/formats.md.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
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

#define PROTOCOL "crikpy-launch 1"
#define USAGE "usage: launch [--socket PATH] [--agent-wait SECONDS] [--term-wait SECONDS] [--] CMD [ARG...]" \
              " | launch install DIR... | launch version"
enum { PEERS = 8, LINE = 512, PAST = 1024, NAME = 80, OVERFLOW_UID = 65534, EXIT_LAUNCHER = 125 };
enum { TICK_MS = 50, RESUME_TIMES = 20, RESUME_EVERY_MS = 500, CLEAR_TRIES = 200, CLEAR_EVERY_US = 10000 };

struct peer { int fd; size_t used; char line[LINE]; };
struct ending { pid_t pid; int status; };

static enum { WAITING, RUNNING, ENDED } state;
static enum { QUIET, ASKED, KEPT } term; /* a SIGTERM: none is open, the agents were asked, one keeps it back */
static const char *const STATES[] = {"waiting", "running", "ended"};
static struct peer peers[PEERS] = {[0 ... PEERS - 1] = {.fd = -1}}, *holder, *keeper;
static struct ending past[PAST]; /* by PID: children that ended during a hold, before they could be adopted */
static char **command;
static pid_t job;
static int job_status = -1, exit_status = -1, resumptions;
static long long agent_wait = 30000, term_wait = 2000, start_at, term_until, resume_at; /* milliseconds */

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

static int complain(int exit_with, const char *subject, const char *reason)
{
    fprintf(stderr, "crikpy-launch: %s: %s\n", subject, reason);
    return exit_with;
}

/* Only marks the peer as gone: settle() draws the conclusions, so that they surprise no caller. */
static void drop(struct peer *peer)
{
    if (peer->fd >= 0) close(peer->fd);
    peer->fd = -1, peer->used = 0;
}

/* A peer that does not read is dropped: the first process of a capsule waits for nobody. */
__attribute__((format(printf, 2, 3))) static void say(struct peer *peer, const char *format, ...)
{
    char line[LINE];
    va_list values;
    va_start(values, format);
    const int length = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    if (peer->fd >= 0 && send(peer->fd, line, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL) != length) drop(peer);
}

static _Noreturn void become_job(void)
{
    setsid(), prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans stay below it, as if it were the first process itself */
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &(sigset_t){0}, NULL);
    execvp(command[0], command);
    _exit(complain(errno == ENOENT || errno == ENOTDIR ? 127 : 126, command[0], strerror(errno)));
}

static void job_ended(int status)
{
    state = ENDED, term = QUIET, job_status = status;
    for (int i = 0; i < PEERS; i++) say(&peers[i], "event ended %d\n", status);
}

static void start_job(void)
{
    const pid_t child = fork();
    if (child == 0) become_job();
    state = RUNNING;
    if (child > 0) job = child;
    else job_ended(complain(126, "fork", strerror(errno)));
}

static bool reap(void)
{
    pid_t pid;
    for (int how; (pid = waitpid(-1, &how, WNOHANG)) > 0;) {
        const int status = WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
        if (state == RUNNING && pid == job) job_ended(status);
        else if (state == WAITING) past[pid % PAST] = (struct ending){pid, status};
    }
    return pid == 0; /* children remain */
}

static void pass_term(void)
{
    if (state == WAITING) exit(128 + SIGTERM);
    if (state == RUNNING) kill(job, SIGTERM);
    term = QUIET;
}

static long number(const char *text, long most)
{
    char *end;
    const long value = strtol(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && value <= most ? value : -1;
}

static bool adopt(pid_t pid)
{
    siginfo_t info;
    const struct ending ending = past[pid % PAST];
    const bool alive = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
    if (!alive && ending.pid != pid) return false;
    state = RUNNING, job = pid;
    if (!alive) job_ended(ending.status);
    return true;
}

/* Does what a line asks for, refusals first; returns NULL, or the error's code and text. */
static const char *obey(struct peer *peer, const char *line)
{
    const bool hold = !strcmp(line, "hold"), start = !strcmp(line, "start"), status = !strcmp(line, "status");
    const bool keep = !strcmp(line, "term hold"), pass = !strcmp(line, "term pass");
    const bool chosen = !strncmp(line, "release ", 8), release = chosen || !strcmp(line, "release");
    const bool child = !strncmp(line, "adopt ", 6);
    const long value = chosen ? number(line + 8, 255) : child ? number(line + 6, INT_MAX) : -1;
    if (!status && !hold && !start && !keep && !pass && !release && !child) return "unknown request";
    if ((hold || start) && holder && holder != peer) return "held by another connection";
    if ((keep || pass) && term == KEPT && keeper != peer) return "held by another connection";
    if ((release || child) && holder != peer) return "unheld by this connection";
    if ((chosen && value < 0) || (child && value < 1)) return "argument is out of range";
    if ((start || child) && state != WAITING) return "state is not waiting";
    if (chosen && state != ENDED) return "state is not ended";
    if ((keep || pass) && term == QUIET) return "state has no pending SIGTERM";
    if (child && !adopt((pid_t)value)) return "child with this PID does not exist";
    if (start) start_job();
    if (pass) pass_term();
    if (keep) term = KEPT, keeper = peer;
    if (release) holder = NULL, exit_status = (int)value, start_at = now() + agent_wait;
    if (hold && !holder) holder = peer, resumptions = 0, memset(past, 0, sizeof past);
    return NULL;
}

static void hear(struct peer *peer)
{
    const ssize_t got = recv(peer->fd, peer->line + peer->used, LINE - peer->used, MSG_DONTWAIT);
    bool clean = true;
    if (got > 0) peer->used += (size_t)got;
    else if (got == 0 || errno != EAGAIN) drop(peer);
    for (char *end; peer->fd >= 0 && (end = memchr(peer->line, '\n', peer->used));) {
        for (char *byte = peer->line; byte < end; byte++) clean = clean && *byte >= ' ' && *byte <= '~';
        if (!clean) break;
        *end = '\0';
        const char *fault = obey(peer, peer->line);
        if (fault) say(peer, "error %s\n", fault);
        else say(peer, "ok %s %d %d\n", STATES[state], job, job_status);
        if (peer->fd < 0) return;
        peer->used -= (size_t)(end + 1 - peer->line);
        memmove(peer->line, end + 1, peer->used);
    }
    if (!clean || peer->used == LINE) say(peer, "error garbage instead of a line\n"), drop(peer);
}

/* The kernel shows a peer from outside this PID namespace as pid 0, which nothing inside can forge. */
static void welcome(int fd)
{
    struct peer stranger = {.fd = fd}, *seat = peers;
    struct ucred who;
    const bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &(socklen_t){sizeof who}) == 0;
    const bool trusted = known && who.pid == 0 && (who.uid == 0 || who.uid == OVERFLOW_UID);
    while (seat < peers + PEERS && seat->fd >= 0) seat++;
    const char *fault = !trusted ? "forbidden to all but the node's root" : seat == peers + PEERS ? "busy" : NULL;
    if (fault) say(&stranger, "error %s\n", fault), drop(&stranger);
    else *seat = stranger, say(seat, PROTOCOL " %s %d %d\n", STATES[state], job, job_status);
}

static void hear_signals(int signals)
{
    struct signalfd_siginfo got[16];
    const ssize_t size = read(signals, got, sizeof got);
    for (ssize_t i = 0; i < size / (ssize_t)sizeof *got; i++) {
        const int signo = (int)got[i].ssi_signo;
        if (signo == SIGCHLD) reap();
        else if (signo != SIGTERM && state == RUNNING) kill(job, signo);
        for (int p = 0; signo == SIGTERM && p < PEERS; p++) say(&peers[p], "event term\n");
        if (signo == SIGTERM && term == QUIET && state != ENDED) term = ASKED, term_until = now() + term_wait;
    }
}

/* Draws the conclusions from what was heard and from the time; returns how long poll may wait. */
static int settle(void)
{
    bool company = false;
    for (int i = 0; i < PEERS; i++) company = company || peers[i].fd >= 0;
    if (holder && holder->fd < 0) {
        holder = NULL, start_at = 0;
        if (state == RUNNING) resumptions = RESUME_TIMES, resume_at = now();
        /* What a restore left half done goes before the job starts cold; bounded, for the job must start. */
        for (int i = 0; i < CLEAR_TRIES && state == WAITING && getpid() == 1; i++) {
            kill(-1, SIGKILL);
            if (!reap()) break;
            usleep(CLEAR_EVERY_US);
        }
    }
    if (state == WAITING && !holder && term != QUIET) pass_term();
    if ((term == ASKED && (!company || now() >= term_until)) || (term == KEPT && keeper->fd < 0)) pass_term();
    if (state == WAITING && !holder && now() >= start_at) start_job();
    if (state == RUNNING && resumptions > 0 && now() >= resume_at) {
        kill(getpid() == 1 ? -1 : job, SIGCONT); /* repeated, for a dying dump may stop the tree after its agent */
        resumptions--, resume_at = now() + RESUME_EVERY_MS;
    }
    if (state == ENDED && !holder) exit(exit_status >= 0 ? exit_status : job_status);
    return (state == WAITING && !holder) || term == ASKED || resumptions > 0 ? TICK_MS : -1;
}

/* Returns a listening socket, or -1 with errno; by way of its folder, as an address holds only 107 bytes. */
static int open_socket(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    const int parent = open(folder, O_PATH | O_CLOEXEC);
    if (parent < 0) return -1;
    snprintf(at.sun_path, sizeof at.sun_path, "/proc/self/fd/%d%s", parent, slash);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    unlink(at.sun_path);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || chmod(at.sun_path, 0666) || listen(fd, SOMAXCONN)) return -1;
    return fd;
}

/* Puts a copy of this very program into each folder, whole or not at all, until one fails. */
static int install(int start, char *const *folders)
{
    char draft[] = ".launch.XXXXXX";
    const int from = open("/proc/self/exe", O_RDONLY), to = fchdir(start) || chdir(*folders) ? -1 : mkstemp(draft);
    ssize_t copied = to < 0 ? -1 : 1;
    while (copied > 0) copied = sendfile(to, from, NULL, INT_MAX);
    if (copied == 0 && fchmod(to, 0755) == 0 && fsync(to) == 0 && rename(draft, "launch") == 0)
        return folders[1] ? install(start, folders + 1) : 0;
    if (to >= 0) unlink(draft);
    return complain(EXIT_LAUNCHER, *folders, strerror(errno));
}

int main(int argc, char **argv)
{
    const char *path = "/.crikpy/launch.sock";
    if (argc >= 3 && !strcmp(argv[1], "install")) return install(open(".", O_PATH), argv + 2);
    if (argc == 2 && !strcmp(argv[1], "version")) return puts(PROTOCOL) < 0 ? EXIT_LAUNCHER : 0;
    for (command = argv + 1; *command && !strncmp(*command, "--", 2); command += 2) {
        const char *option = *command, *value = command[1] ? command[1] : "";
        const long seconds = number(value, INT_MAX);
        if (!strcmp(option, "--") && command++) break;
        if (!strcmp(option, "--socket") && *value == '/' && strlen(strrchr(value, '/')) < NAME) path = value;
        else if (!strcmp(option, "--agent-wait") && seconds >= 0) agent_wait = seconds * 1000LL;
        else if (!strcmp(option, "--term-wait") && seconds >= 0) term_wait = seconds * 1000LL;
        else return complain(EXIT_LAUNCHER, option, "bad option or value; " USAGE);
    }
    if (!*command) return complain(EXIT_LAUNCHER, "no command", USAGE);
    sigset_t wanted;
    sigfillset(&wanted);
    sigdelset(&wanted, SIGPIPE);
    sigprocmask(SIG_SETMASK, &wanted, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    prctl(PR_SET_CHILD_SUBREAPER, getpid() != 1);
    const int signals = signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC), listener = open_socket(path);
    if (signals < 0) become_job(); /* never worse than without us */
    if (listener < 0) agent_wait = complain(0, strerror(errno), "no socket, so the job starts without its agent");
    start_at = now() + agent_wait;
    for (bool rest = false;;) { /* a listener that cannot accept must not keep the loop busy */
        const int wait = settle();
        struct pollfd set[PEERS + 2] = {{signals, POLLIN, 0}, {rest ? -1 : listener, POLLIN, 0}};
        for (int i = 0; i < PEERS; i++) set[i + 2] = (struct pollfd){peers[i].fd, POLLIN, 0};
        if (poll(set, PEERS + 2, rest ? TICK_MS : wait) < 0) continue;
        const int fd = set[1].revents ? accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;
        rest = set[1].revents && fd < 0;
        if (fd >= 0) welcome(fd);
        if (set[0].revents) hear_signals(signals);
        for (int i = 0; i < PEERS; i++)
            if (set[i + 2].revents && peers[i].fd >= 0) hear(&peers[i]);
    }
}
