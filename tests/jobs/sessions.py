"""A job with sessions and process groups of its own: a daemon that leads one, two children that are another."""

from __future__ import annotations

import os
import signal

from tests.jobs import proving


def bear(*, session: bool = False, group: int | None = None) -> int:
    """Return the PID of a child that only waits, leading a session or being in a group (0: its own)."""
    ready, said = os.pipe()
    child = os.fork()
    if child == 0:
        if session:
            os.setsid()
        if group is not None:
            os.setpgid(0, group)
        os.write(said, b"!")
        signal.pause()
        os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(said)
    return child


def main() -> None:
    """Be the leader of a session, with others around."""
    proving.block()
    here = os.getpid()
    leader = bear(group=0)
    members = {
        here: (here, here),
        bear(): (here, here),
        leader: (here, leader),
        bear(group=leader): (here, leader),
    }
    daemon = bear(session=True)
    members[daemon] = (daemon, daemon)

    def prove(count: int) -> None:
        found = {pid: (os.getsid(pid), os.getpgid(pid)) for pid in members}
        proving.check_equal(found, members, "sessions and groups")
        os.killpg(leader, signal.SIGCONT)

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
