"""What watches or drives other programs in ways that no checkpoint can keep."""

from __future__ import annotations

from catalogue.describing import Group, Verdict, Workload, printed

_IO_URING = ("io_uring_setup", "io_uring_enter", "io_uring_register")
_LOOP = "echo begun; while sleep 0.1; do :; done"

GROUP = Group(
    title="Debuggers, and what a container usually may not",
    workloads=(
        Workload(
            name="gdb",
            program="GDB",
            does="runs a shell under it",
            packages=("gdb",),
            words=("gdb", "--batch", "-ex", "run", "--args", "bash", "-c", _LOOP),
            progress="begun",
            ends=False,
            expected=Verdict.REFUSED,
        ),
        Workload(
            name="strace",
            program="strace",
            does="traces a shell and its children",
            packages=("strace",),
            words=("strace", "-f", "-o", "/dev/null", "bash", "-c", _LOOP),
            progress="begun",
            ends=False,
            expected=Verdict.REFUSED,
        ),
        Workload(
            name="io-uring",
            program="fio",
            does="writes and verifies a file by io_uring, in a container that permits it",
            packages=("fio",),
            words=(
                *("fio", "--name=job", "--ioengine=io_uring", "--rw=randwrite", "--verify=crc32c", "--size=16M"),
                *("--filename=/tmp/file", "--time_based", "--runtime=60", "--eta=always", "--eta-newline=1"),
            ),
            progress="Starting|Jobs",
            settle_s=1.5,
            ends=False,
            allowed=_IO_URING,
            expected=Verdict.REFUSED,
        ),
        Workload(
            name="fio",
            program="fio",
            does="the same by POSIX asynchronous I/O, with threads",
            packages=("fio",),
            words=(
                *("fio", "--name=job", "--ioengine=posixaio", "--rw=randwrite", "--verify=crc32c", "--size=64M"),
                *(
                    "--filename=/tmp/file",
                    "--rate=8M",
                    "--eta=always",
                    "--eta-newline=1",
                    "--thread",
                    "--numjobs=1",
                ),
            ),
            progress="Starting|Jobs",
            settle_s=2.0,
            check=printed(r"err= 0"),
        ),
    ),
)
