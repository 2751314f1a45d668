"""An agent as a program of its own, so that a test can measure it or kill it at a chosen moment.

    agent.py save|resume ORDER

ORDER is JSON: store (URL), workload (three parts), launcher_pid, socket, carried, checkpoint, pause, hungry,
within_s. At the event named by `pause`, or before the first chunk when that is `chunk`, it says `paused` and goes
no further until its standard input ends; where it is `hungry`, it eats memory there until the kernel kills it.
When it is done it says how much memory it has used at most, in KiB; a CrikpyError ends it with its status.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from crikpy.aio.clock import Deadline
from crikpy.capsule.launcher import LauncherConnection
from crikpy.errors import CrikpyError
from crikpy.flows.checkpointing import checkpoint
from crikpy.flows.members import CheckpointOrder, Member
from crikpy.flows.restoring import Waiting, restore
from crikpy.model.capsule import Capsule
from crikpy.model.notices import Trigger
from crikpy.model.workload import Workload
from crikpy.settings import from_env
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.opening import open_store
from crikpy.store.records import Claim
from tests.integration.moving import Story
from tests.integration.stores import WatchedStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the program is told."""

    store: str
    workload: tuple[str, str, str]
    launcher_pid: int
    socket: str
    carried: tuple[str, ...]
    checkpoint: str = ""
    pause: str = ""
    hungry: bool = False
    within_s: float = 100.0

    def words(self, act: str) -> tuple[str, ...]:
        """Return the command line that carries this order."""
        return (sys.executable, "-m", "tests.integration.agent", act, json.dumps(asdict(self)))


_gone_on = threading.Event()


def _pause() -> None:
    """Say so, and wait for the end of standard input; several threads may come here at once, and again later."""
    if _gone_on.is_set():
        return
    os.write(sys.stdout.fileno(), b"paused\n")  # in one piece
    os.read(sys.stdin.fileno(), 1)
    _gone_on.set()


def _eat() -> NoReturn:
    eaten = []
    while True:
        eaten.append(b"x" * 2**20)


def _act(act: str, order: Order) -> None:
    settings = from_env(os.environ)
    interlude = _eat if order.hungry else _pause
    story = Story(**({order.pause: interlude} if order.pause not in {"", "chunk"} else {}))
    store: ObjectStore = open_store(order.store, settings.store)
    if order.pause == "chunk":
        store = WatchedStore(store, before_chunk=interlude)
    cluster, namespace, name = order.workload
    workload = Workload(cluster=cluster, namespace=namespace, name=name)
    capsule = Capsule(launcher_pid=order.launcher_pid, socket=Path(order.socket), carried=tuple(order.carried))
    member = Member(capsule=capsule, workload=workload)
    deadline = Deadline.after(order.within_s)
    if act == "save":
        plan = CheckpointOrder(trigger=Trigger.MANUAL, deadline=deadline, leave_running=False)
        checkpoint(member, store, plan, settings, story)
        return
    manifest = Checkpoints(store, workload).manifest(order.checkpoint)
    with LauncherConnection(capsule.socket, deadline) as launcher:
        launcher.hold(deadline)
        waiting = Waiting(member=member, launcher=launcher, manifest=manifest)
        restore([waiting], store, Claim.ours(), deadline, settings, story)
        launcher.release(deadline)


def _most_memory() -> int:
    """Return VmHWM of proc_pid_status(5), in KiB; ru_maxrss of getrusage(2) begins with that of the parent."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    try:
        _act(sys.argv[1], Order(**json.loads(sys.argv[2])))
    except CrikpyError as fault:
        traceback.print_exc()
        sys.exit(fault.exit_code)
    print(_most_memory(), flush=True)
