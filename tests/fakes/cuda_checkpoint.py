"""A stand-in for NVIDIA's cuda-checkpoint: a program that orders the stand-in jobs of tests/jobs/gpus.py about.

It keeps the tool's command line and its states, writes each call into `calls` beside itself, and fails, loudly,
when it is called in the wrong order, for a process that it does not know, or for one that is stopped, in which the
real tool would hang. `plan` beside it says what is to go wrong: lines `ACTION HOW [TIMES]`, where HOW is `fails`
(before anything is done), `breaks` (CUDA has failed in the process after it), `hangs`, or `lingers` for a second
before it is done. Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import time
from pathlib import Path

HELP = """CUDA checkpoint and restore utility.
Version 580.65.06. A stand-in of crikpy's tests.

Operations:
--get-state --pid <pid>
--action lock | checkpoint | restore | unlock --pid <pid> [--timeout <ms>] [--device-map <uuids>]
--toggle --pid <pid>
--get-restore-tid --pid <pid>
"""
HERE = Path(sys.argv[0]).absolute().parent
BEFORE = {"lock": "running", "checkpoint": "locked", "restore": "checkpointed", "unlock": "locked"}
PATIENCE_S = 20.0


def main() -> int:
    """Do as the words say; return the exit status."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--get-state", action="store_true")
    parser.add_argument("--action", choices=tuple(BEFORE))
    parser.add_argument("--pid", "-p", type=int)
    parser.add_argument("--timeout", "-t", type=int, default=0)
    parser.add_argument("--device-map", "-d", default="")
    words = parser.parse_args()
    if words.help:
        print(HELP)
        return 0
    folder, inner = place_of(words.pid)
    if words.get_state:
        note(f"get-state {inner}")
        print(state_of(folder))
        return 0
    note(" ".join(filter(None, (words.action, str(inner), words.device_map))))
    how = planned(words.action)
    if how == "hangs":
        time.sleep(words.timeout / 1000 if words.timeout else 600)
        return fail(words, "operation timed out")
    if how == "lingers":
        time.sleep(1)
    if how == "fails":
        return fail(words, "operation not supported")
    if (state := state_of(folder)) != BEFORE[words.action]:
        return fail(words, f"illegal state: {state}")
    if Path(f"/proc/{words.pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt":
        return fail(words, "the process is stopped, the real tool would hang")
    order(folder, "break" if how == "breaks" else words.action, words.device_map)
    return fail(words, "unknown error") if how == "breaks" else 0


def place_of(pid: int) -> tuple[Path, int]:
    """Return the letter box of a process, and its PID inside its container."""
    status = Path(f"/proc/{pid}/status").read_text()
    inner = int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])
    folder = Path(f"/proc/{pid}/root/tmp/gpu/{inner}")
    if not folder.is_dir():
        sys.exit(f'Could not find process ID {pid}: "not initialized"')
    return folder, inner


def state_of(folder: Path) -> str:
    """Return what the process says of itself."""
    return (folder / "state").read_text()


def order(folder: Path, act: str, device_map: str) -> None:
    """Have the process do something, and wait until it has."""
    draft = folder / "draft"
    draft.write_text(f"{act} {device_map}")
    draft.rename(folder / "order")
    until = time.monotonic() + PATIENCE_S
    while (folder / "order").exists():
        if time.monotonic() > until:
            sys.exit("the process does not answer")
        time.sleep(0.002)


def planned(action: str) -> str:
    """Return how an action goes wrong, and count it; nothing when it does not."""
    plan = HERE / "plan"
    if not plan.exists():
        return ""
    with plan.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = [line.split() for line in file.read().splitlines()]
        for line in lines:
            if line[0] == action and (len(line) < 3 or int(line[2]) > 0):
                line[2:] = [str(int(line[2]) - 1)] if len(line) > 2 else []
                file.seek(0)
                file.truncate()
                file.write("".join(f"{' '.join(each)}\n" for each in lines))
                return line[1]
    return ""


def note(call: str) -> None:
    """Write a call down."""
    with (HERE / "calls").open("a") as file:
        file.write(f"{call}\n")


def fail(words: argparse.Namespace, why: str) -> int:
    """Say why not, as the real tool does."""
    print(f'Could not {words.action} on process ID {words.pid}: "{why}"', file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
