"""A job that AppArmor confines is confined after a move: by its new container, or by the profile that it had."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crikpy.criu import argv, learning
from crikpy.errors import IncompatibleError
from crikpy.settings import Settings
from tests.integration.capsules import JobCapsule, job_words
from tests.integration.moving import Bench

pytestmark = [
    pytest.mark.criu,
    pytest.mark.vm,
    pytest.mark.skipif(
        not Path("/sys/kernel/security/apparmor/profiles").exists() or shutil.which("apparmor_parser") is None,
        reason="needs AppArmor in the kernel and apparmor_parser; the machine of hack/vm has both",
    ),
]

FORBIDDEN = "/etc/crikpy-forbidden"
_PROFILE = """
profile {name} flags=(attach_disconnected,mediate_deleted) {{
  file, network, capability, unix, mqueue, ptrace, signal, umount,
  deny {forbidden} rw,
}}
"""


def _parse(option: str, name: str) -> None:
    words = ("apparmor_parser", option, "--skip-cache")
    subprocess.run(words, input=_PROFILE.format(name=name, forbidden=FORBIDDEN), text=True, check=True)


@contextmanager
def _loaded() -> Iterator[str]:
    """Lend the name of a profile that is loaded for as long."""
    name = f"crikpy-test-{secrets.token_hex(4)}"
    _parse("--replace", name)
    try:
        yield name
    finally:
        if f"{name} " in Path("/sys/kernel/security/apparmor/profiles").read_text():
            _parse("--remove", name)


@pytest.fixture
def profile() -> Iterator[str]:
    """A profile that forbids one file."""
    with _loaded() as name:
        Path(FORBIDDEN).write_text("forbidden")
        yield name
    Path(FORBIDDEN).unlink()


def _labels(job: JobCapsule) -> set[str]:
    return {Path(f"/proc/{pid}/attr/apparmor/current").read_text().strip() for pid in job.members()}


def _begin(bench: Bench, *before: str) -> JobCapsule:
    job = bench.vacant(*before, *job_words("confined", FORBIDDEN))
    job.start()
    job.expect("ready")
    job.prove()
    return job


def test_a_container_confines_a_job_that_came_to_it_whether_by_the_same_profile_or_another(
    container_bench: Bench, profile: str
) -> None:
    container_bench.apparmor = profile
    job = _begin(container_bench)
    assert _labels(job) == {f"{profile} (enforce)"}
    job = container_bench.move(job)
    assert _labels(job) == {f"{profile} (enforce)"}
    job.prove()
    manifest = container_bench.save(job)
    with _loaded() as other:
        container_bench.apparmor = other
        job = container_bench.resume(manifest)
        assert _labels(job) == {f"{other} (enforce)"}
        job.prove()
        assert job.finish() == 0, job.stderr.text()


def test_a_job_that_confined_itself_stays_so_or_is_not_resumed_where_its_profile_is_missing(
    plain_bench: Bench, profile: str
) -> None:
    job = _begin(plain_bench, "aa-exec", "-p", profile, "--")
    assert _labels(job) == {f"{profile} (enforce)"}
    job = plain_bench.move(job)
    assert _labels(job) == {f"{profile} (enforce)"}
    job.prove()
    manifest = plain_bench.save(job)
    _parse("--remove", profile)
    capsule = plain_bench.vacant()
    why = f"AppArmor profile {profile} is not loaded here"
    with capsule.held() as launcher, pytest.raises(IncompatibleError, match=why):
        plain_bench.restore(manifest, capsule, launcher)
    assert plain_bench.checkpoints.summary(manifest.checkpoint).claim is None


_LEARN = """
import sys
from pathlib import Path
from crikpy.aio.clock import Deadline
from crikpy.criu import learning
learning.hand_over(Path(sys.argv[1]), Path(sys.argv[2]), Deadline.after(60.0))
"""
_ROUNDS = 3


def _learnt(words: tuple[str, ...], folder: Path) -> bytes:
    # Its check may fail for what crikpy does without; what it learnt it leaves all the same.
    subprocess.run(words, capture_output=True, check=False, timeout=60, env=argv.ENVIRONMENT | os.environ)
    cache = folder / learning.CACHE
    learnt = cache.read_bytes()
    cache.unlink()
    return learnt


def test_criu_learns_of_apparmor_where_the_agent_does_not_see_it(settings: Settings) -> None:
    blindly = ("unshare", "--mount", "sh", "-c", 'umount /sys/kernel/security && exec "$@"', "sh")
    # CRIU keeps its cache on a tmpfs only.
    with tempfile.TemporaryDirectory(prefix="crikpy-", dir="/dev/shm") as name:
        folder = Path(name)
        ours = (*blindly, sys.executable, "-c", _LEARN, str(settings.criu.bundle), name)
        criu = argv.check(str(settings.criu.bundle), name)
        unseen = _learnt(ours, folder)
        seeing = [_learnt(criu, folder) for _ in range(_ROUNDS)]
        blind = [_learnt((*blindly, *criu), folder) for _ in range(_ROUNDS)]
    # Some of it is about the moment, or differs once in a dozen times: what counts is what tells the two apart.
    telling = [
        place
        for place, (with_it, without) in enumerate(
            zip(zip(*seeing, strict=True), zip(*blind, strict=True), strict=True)
        )
        if len({*with_it}) == len({*without}) == 1 and with_it[0] != without[0]
    ]
    assert telling, "CRIU sees AppArmor without being shown it: this test shows nothing"
    assert [unseen[place] for place in telling] == [seeing[0][place] for place in telling]
