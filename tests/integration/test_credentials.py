"""A moved job is who it was, and may do what it might: groups, capabilities, limits, the order of killing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.capsules import JobCapsule, job_words
from tests.integration.moving import Bench

pytestmark = pytest.mark.criu

_FACTS = ("Uid", "Gid", "Groups", "Umask", "NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_FILES = ("limits", "oom_score_adj", "loginuid", "personality", "coredump_filter", "timerslack_ns")


def _who(job: JobCapsule) -> dict[int, dict[str, str]]:
    """Return what each process is and may, by its PID inside."""
    found = {}
    for outer, inner in job.members().items():
        folder = Path(f"/proc/{outer}")
        lines = (folder / "status").read_text().splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        found[inner] = {name: status[name] for name in _FACTS}
        found[inner] |= {name: (folder / name).read_text() for name in _FILES if (folder / name).exists()}
    return found


def test_groups_capabilities_limits_and_the_order_of_killing_stay(plain_bench: Bench) -> None:
    words = (
        *("choom", "-n", "321", "--", "prlimit", "--nofile=300:400", "--core=0", "--stack=9000000:90000000", "--"),
        *("setpriv", "--regid=1234", "--groups=1234,4321,99999", "--no-new-privs"),
        *(
            "--bounding-set=-all,+chown,+kill,+net_raw",
            "--inh-caps=-all,+chown,+net_raw",
            "--ambient-caps=+net_raw",
        ),
        "--",
    )
    job = plain_bench.vacant(*words, *job_words("family", 2))
    job.start()
    job.expect("ready")
    job.prove()
    before = _who(job)
    assert {facts["Groups"] for facts in before.values()} == {"1234 4321 99999"}
    assert {facts["Gid"] for facts in before.values()} == {"1234\t1234\t1234\t1234"}
    assert {facts["oom_score_adj"] for facts in before.values()} == {"321\n"}
    assert {facts["CapBnd"] for facts in before.values()} == {"0000000000002021"}
    assert {facts["CapAmb"] for facts in before.values()} == {"0000000000002000"}
    moved = plain_bench.move(job)
    moved.prove()
    assert _who(moved) == before
    assert moved.finish() == 0, moved.stderr.text()
