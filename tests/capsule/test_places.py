"""Where a job lives on a plain machine: found while it runs, never taken from a running job, gone afterwards."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.capsule.places import JobPlace
from crikpy.errors import CapsuleError, JobRunningError, LauncherError, NoSuchJobError
from crikpy.model.capsule import Capsule
from crikpy.model.saving import Mode, SaveOptions
from crikpy.model.workload import Workload
from crikpy.settings import RunSettings
from tests.fakes.launcher import RUNNING, Talk, hangs_up_after, launcher, says

JOB = Workload(cluster="machines", namespace="default", name="train")


def _place(folder: Path, workload: Workload = JOB) -> JobPlace:
    return JobPlace(RunSettings(run_dir=folder / "run", lib_dir=folder / "lib"), workload)


def _capsule(place: JobPlace) -> Capsule:
    return Capsule(
        launcher_pid=4711,
        socket=place.socket,
        carried=("/data", "/tmp/x"),
        excluded=("/data/cache",),
        inherited=("0:42",),
    )


@pytest.fixture
def place(tmp_path: Path) -> JobPlace:
    """The place of a job whose directories exist and hold something."""
    found = _place(tmp_path)
    found.socket.parent.mkdir(parents=True)
    found.empty_temporary()
    (found.temporary / "file").write_text("of the job")
    return found


def test_a_name_that_was_never_used_is_free(tmp_path: Path) -> None:
    _place(tmp_path).require_free()


def test_a_name_whose_job_has_ended_is_free_whatever_it_left(place: JobPlace) -> None:
    place.mark_moved()
    with launcher(place.socket, says(RUNNING)):
        pass
    assert place.socket.exists()
    place.require_free()


def test_a_running_job_is_named_with_its_process_and_left_alone(place: JobPlace) -> None:
    with launcher(place.socket, says(RUNNING)):
        with pytest.raises(
            JobRunningError, match=f"named train runs .* its launcher is process {os.getpid()}"
        ) as taken:
            place.require_free()
        assert "crikpy checkpoint train" in taken.value.remedy
        assert (place.temporary / "file").exists()


@pytest.mark.parametrize(
    "talk",
    [
        hangs_up_after(b"error busy\n"),
        hangs_up_after(b""),
        says(b"crikpy-launch 2 running 9001 -1\n"),
        says(b"something else\n"),
    ],
    ids=["busy", "hangs-up", "newer", "stranger"],
)
def test_a_launcher_that_answers_otherwise_is_left_alone(place: JobPlace, talk: Talk) -> None:
    with launcher(place.socket, talk):
        with pytest.raises(LauncherError):
            place.require_free()
        with pytest.raises(LauncherError):
            place.find()
        assert place.socket.exists()
        assert (place.temporary / "file").exists()


def test_a_recorded_job_is_found_while_it_runs(place: JobPlace) -> None:
    words = ("python", "train.py", "--lr", "0.1")
    saving = SaveOptions(mode=Mode.APPLICATION, signal_before=10, application_directories=("/data",))
    place.record("s3://bucket/prefix", words, _capsule(place), "a-token", saving)
    with launcher(place.socket, says(RUNNING)):
        found = place.find()
    assert found.workload == JOB
    assert found.store_url == "s3://bucket/prefix"
    assert found.holder == "a-token"
    assert found.command == words
    assert found.saving == saving
    assert found.capsule == Capsule(
        launcher_pid=os.getpid(),
        socket=place.socket,
        carried=("/data", "/tmp/x"),
        excluded=("/data/cache",),
        inherited=("0:42",),
        hooks=str(place.hooks),
    )


def test_a_job_that_does_not_run_is_not_found(place: JobPlace) -> None:
    place.record("s3://bucket", ("true",), _capsule(place), "a-token")
    with pytest.raises(NoSuchJobError, match="no job named train runs on this machine"):
        place.find()


@pytest.mark.parametrize("record", [None, "", "{", "[]", "{}", '{"store": "s3://b"}', '"text"', "null", "\0"])
def test_a_record_that_cannot_be_read_is_an_error(place: JobPlace, record: str | None) -> None:
    if record is not None:
        (place.socket.parent / "job.json").write_text(record)
    with launcher(place.socket, says(RUNNING)), pytest.raises(CapsuleError, match="of the running job train"):
        place.find()


def test_only_the_owner_reads_what_is_recorded(tmp_path: Path) -> None:
    place = _place(tmp_path)
    place.record("s3://bucket", ("true",), _capsule(place), "a-token")
    assert stat.S_IMODE(place.socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((place.socket.parent / "job.json").stat().st_mode) == 0o600


def test_a_place_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    place = _place(tmp_path)
    place.socket.parent.parent.touch()
    for act in (place.mark_moved, lambda: place.record("s3://bucket", ("true",), _capsule(place), "a-token")):
        with pytest.raises(CapsuleError, match="Not a directory") as caught:
            act()
        assert "CRIKPY_RUN_RUN_DIR" in caught.value.remedy


def test_a_job_has_moved_once_that_was_marked(place: JobPlace) -> None:
    assert not place.moved()
    place.mark_moved()
    assert place.moved()


def test_the_temporary_directory_is_emptied_and_open_to_all(place: JobPlace) -> None:
    place.empty_temporary()
    assert list(place.temporary.iterdir()) == []
    assert stat.S_IMODE(place.temporary.stat().st_mode) == 0o1777


def test_nothing_is_left_of_a_removed_job_and_others_are_untouched(place: JobPlace, tmp_path: Path) -> None:
    other = _place(tmp_path, Workload(cluster="machines", namespace="default", name="other"))
    other.empty_temporary()
    place.remove()
    assert not place.socket.parent.exists()
    assert not place.temporary.exists()
    assert other.temporary.exists()
    place.remove()


def test_a_short_name_of_a_plain_machine_is_its_folder(tmp_path: Path) -> None:
    place = _place(tmp_path)
    assert place.socket == tmp_path / "run" / "train" / "launch.sock"
    assert place.temporary == tmp_path / "lib" / "train" / "tmp"


_PARTS = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,60}", fullmatch=True)
_WORKLOADS = st.builds(
    Workload, cluster=_PARTS | st.just("machines"), namespace=_PARTS | st.just("default"), name=_PARTS
)


@given(first=_WORKLOADS, second=_WORKLOADS)
def test_any_jobs_have_short_folders_of_their_own(first: Workload, second: Workload) -> None:
    folders = {_place(Path("/"), workload).socket.parent for workload in (first, second)}
    assert all(folder.parent == Path("/run") and len(folder.name) <= 40 for folder in folders)
    assert len(folders) == len({first, second})
