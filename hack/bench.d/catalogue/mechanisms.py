"""What the kernel keeps for a process, one by one: stress-ng uses it without a pause, and checks what it gets."""

from __future__ import annotations

from catalogue.describing import Group, Verdict, Workload, printed

_UNHARMED = (
    printed(r"passed: [1-9].*") & printed("failed: 0") & printed(r"successful run completed in (?:[5-9]|\d\d)\.")
)
"""What stress-ng says when nothing that it has checked was wrong; one that ends too early was not."""


def _stressor(
    name: str, does: str, *options: str, expected: Verdict | None = None, seconds: int = 5, note: str = ""
) -> Workload:
    """Describe a stressor: stress-ng says in the end whether everything was as it had to be."""
    return Workload(
        name=name,
        program="stress-ng",
        does=does,
        packages=("stress-ng",),
        words=("stress-ng", *options, "--verify", "--timeout", f"{seconds}s", "--temp-path", "/tmp"),
        progress="dispatching hogs",
        settle_s=1.5,
        check=_UNHARMED,
        expected=expected,
        note=note,
    )


GROUP = Group(
    title="What the kernel keeps",
    workloads=(
        _stressor("timerfd", "timers by descriptors", "--timerfd", "1"),
        _stressor("posix-timers", "POSIX timers (timer_create)", "--timer", "1", "--timer-freq", "1000"),
        _stressor("interval-timers", "interval timers (setitimer)", "--itimer", "1", "--itimer-freq", "1000"),
        _stressor("sleeping", "threads in nanosleep and clock_nanosleep", "--nanosleep", "1"),
        _stressor("posix-semaphores", "POSIX semaphores between processes", "--sem", "1"),
        _stressor("posix-memory", "POSIX shared memory", "--shm", "1"),
        _stressor("posix-queues", "POSIX message queues", "--mq", "1", expected=Verdict.REFUSED),
        _stressor("sysv-semaphores", "System V semaphores", "--sem-sysv", "1"),
        _stressor("sysv-memory", "System V shared memory", "--shm-sysv", "1"),
        _stressor("sysv-queues", "System V message queues", "--msg", "1"),
        _stressor("memfd", "files in memory (memfd_create)", "--memfd", "1", "--memfd-bytes", "64M"),
        _stressor(
            "thp",
            "transparent huge pages, by madvise",
            *("--memthrash", "1", "--memthrash-method", "matrix"),
            note="Huge pages of hugetlbfs were not tried: the machine's kernel has none in reserve.",
        ),
        _stressor("threads", "up to 1,000 threads that come and go", "--pthread", "1", "--pthread-max", "1000"),
        _stressor("descriptors", "up to 10,000 open files that come and go", "--open", "1", "--open-max", "10000"),
        Workload(
            name="mappings",
            program="Python",
            does="60,000 mappings of a page each",
            packages=("python3",),
            words=("python3", "/opt/programs/areas.py", "60000"),
            progress="^3 ",
        ),
        Workload(
            name="all-mappings",
            program="Python",
            does="nearly as many mappings as the kernel grants (vm.max_map_count)",
            packages=("python3",),
            words=("python3", "/opt/programs/areas.py", "65475"),
            progress="^3 ",
            expected=Verdict.REFUSED,
        ),
        _stressor("futexes", "futexes between processes", "--futex", "1"),
        _stressor("events", "eventfd between processes", "--eventfd", "1"),
        _stressor("epoll", "epoll over sockets, with timers", "--epoll", "1"),
        _stressor("signals", "signals queued with values (sigqueue)", "--sigq", "1"),
        _stressor(
            "pipes", "pipes, some of them in packet mode (O_DIRECT)", "--pipe", "1", expected=Verdict.REFUSED
        ),
        _stressor(
            "sockets",
            "TCP connections over loopback, with every option that there is",
            *("--sock", "1"),
            expected=Verdict.UNSAVED,
            note="CRIU 4.2.1 ends itself where it takes one kind of socket for another (`BUG at criu/sockets.c`).",
        ),
        _stressor("datagrams", "UDP over loopback", "--udp", "1"),
        Workload(
            name="socket-pairs",
            program="stress-ng",
            does="pairs of Unix sockets full of data, as many as 4,096 descriptors allow",
            packages=("stress-ng",),
            words=("bash", "-c", "ulimit -n 4096; exec stress-ng --sockpair 1 --verify --timeout 8s"),
            progress="dispatching hogs",
            settle_s=1.5,
            check=_UNHARMED,
        ),
        _stressor("inotify", "inotify on files that change", "--inotify", "1"),
        _stressor("locks", "locks on files (flock)", "--flock", "2"),
        _stressor("linux-aio", "asynchronous I/O by the kernel (io_submit)", "--aiol", "1"),
        _stressor("children", "processes that fork and end", "--fork", "2"),
        _stressor("zombies", "children that nobody has waited for yet", "--zombie", "1", "--zombie-max", "50"),
        _stressor("sessions", "sessions of their own (setsid)", "--session", "1", seconds=12),
    ),
)
