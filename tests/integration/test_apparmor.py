"""A job that AppArmor confines is confined after a move: by its new container, or by the profile that it had."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crikpy.errors import IncompatibleError
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


def test_a_container_confines_a_job_that_came_to_it_by_the_same_profile(
    container_bench: Bench, profile: str
) -> None:
    container_bench.apparmor = profile
    job = _begin(container_bench)
    assert _labels(job) == {f"{profile} (enforce)"}
    for _ in range(2):
        job = container_bench.move(job)
        assert _labels(job) == {f"{profile} (enforce)"}
        job.prove()
    assert job.finish() == 0, job.stderr.text()


def test_a_container_confines_a_job_that_came_to_it_by_its_own_profile(
    container_bench: Bench, profile: str
) -> None:
    container_bench.apparmor = profile
    manifest = container_bench.save(_begin(container_bench))
    with _loaded() as other:
        container_bench.apparmor = other
        moved = container_bench.resume(manifest)
        assert _labels(moved) == {f"{other} (enforce)"}
        moved.prove()
        assert moved.finish() == 0, moved.stderr.text()


def test_a_job_that_confined_itself_stays_confined(plain_bench: Bench, profile: str) -> None:
    job = _begin(plain_bench, "aa-exec", "-p", profile, "--")
    assert _labels(job) == {f"{profile} (enforce)"}
    moved = plain_bench.move(job)
    assert _labels(moved) == {f"{profile} (enforce)"}
    moved.prove()
    assert moved.finish() == 0, moved.stderr.text()


def test_where_the_profile_is_missing_nothing_is_claimed(plain_bench: Bench, profile: str) -> None:
    manifest = plain_bench.save(_begin(plain_bench, "aa-exec", "-p", profile, "--"))
    _parse("--remove", profile)
    capsule = plain_bench.vacant()
    why = f"AppArmor profile {profile} is not loaded here"
    with capsule.held() as launcher, pytest.raises(IncompatibleError, match=why):
        plain_bench.restore(manifest, capsule, launcher)
    assert plain_bench.checkpoints.summary(manifest.checkpoint).claim is None
