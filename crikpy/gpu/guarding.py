"""A small process that gives GPUs back when we are killed while a job is without them.

The launcher lets a job go on as soon as the connection of whoever saves it breaks; but a job whose GPUs were taken
would then hang for ever. So before the first is locked, a shell is started that waits for one word from us: it
ends when it hears it, and gives all back when it sees our end instead. It leaves our cgroups, since a container is
killed as a whole, and it needs no file of ours. Not for the ordinary ways out, in which more is known and told.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from crikpy.aio.children import Child
from crikpy.aio.clock import Deadline
from crikpy.errors import DeadlineError, GpuError

_SCRIPT: Final = """
IFS= read -r word && exit 0
limit=$1; shift
processes=
while [ "$1" != -- ]; do processes="$processes $1"; shift; done
shift
going() { # waits until a process is not stopped any more; fails when it is gone
    tries=0
    while [ $tries -lt 400 ]; do
        IFS= read -r line 2>/dev/null < "/proc/self/fd/$1/stat" || return 1
        case "${line##*) }" in [Tt]*) sleep 0.05 ;; *) return 0 ;; esac
        tries=$((tries + 1))
    done
}
back() { # does an action to a process if it is in a state
    wanted=$1 act=$2 each=$3; shift 3
    going "${each%%:*}" || return 0
    case "$(timeout -k 5 "$limit" "$@" --get-state --pid "${each#*:}" 2>/dev/null)" in
    "$wanted"*) timeout -k 5 "$limit" "$@" --action "$act" --pid "${each#*:}" >/dev/null 2>&1; return 1 ;;
    running* | failed*) return 0 ;;
    *) return 1 ;;
    esac
}
rounds=0
while [ $rounds -lt 60 ]; do
    for each in $processes; do back checkpointed restore "$each" "$@" & done
    wait
    others=
    for each in $processes; do back locked unlock "$each" "$@" & others="$others $!"; done
    done=yes
    for other in $others; do wait "$other" || done=; done
    [ -z "$done" ] || exit 0
    rounds=$((rounds + 1))
    sleep 1
done
"""
"""In rounds, since a tool that we began may still be at work, whose end is not to be hastened."""

_ENDS_S: Final = 2.0


class Guard:
    """Watches over processes until it is dismissed; use it as a context, which dismisses it."""

    def __init__(
        self,
        tool: Sequence[str],
        processes: Sequence[tuple[int, int]],
        *,
        before: Sequence[str],
        environment: dict[str, str],
        limit_s: float,
    ) -> None:
        """Begin to watch.

        Args:
            tool: words that start cuda-checkpoint.
            processes: descriptor of the folder below /proc and PID of each process.
            before: words that start a program out of our cgroups.
            environment: the tool's.
            limit_s: how long one action may take.

        Raises:
            GpuError: it could not be started.
        """
        read_end, self._write_end = os.pipe()
        named = [f"{folder}:{pid}" for folder, pid in processes]
        script = ("/bin/sh", "-c", _SCRIPT, "crikpy-gpu-guard", str(max(1, int(limit_s))))
        try:
            self._child = Child(
                (*before, *script, *named, "--", *tool),
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                pass_fds=[folder for folder, _ in processes],
                env=environment,
            )
        except OSError as fault:
            os.close(self._write_end)
            raise GpuError(f"nobody can watch over the job's GPUs: {fault.strerror}") from fault
        finally:
            os.close(read_end)

    def __enter__(self) -> Guard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.dismiss()

    def dismiss(self) -> None:
        """Have it end without doing anything; harmless a second time."""
        if self._write_end < 0:
            return
        with contextlib.suppress(OSError):  # it was killed
            os.write(self._write_end, b"done\n")
        os.close(self._write_end)
        self._write_end = -1
        with contextlib.suppress(DeadlineError):
            self._child.wait(Deadline.after(_ENDS_S))
