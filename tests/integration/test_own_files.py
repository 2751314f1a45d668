"""A job may have files open that every container has for itself; it finds those of its new one in their place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.integration.moving import Bench

pytestmark = pytest.mark.criu

_OLD, _NEW = "..2025_01_31_12_00_00.123456789", "..2026_02_01_13_10_10.987654321"


def volume(folder: Path, moment: str, **files: str) -> Path:
    """Make what kubelet makes of a secret, a token or a config map."""
    state = folder / moment
    state.mkdir(parents=True)
    for name, text in files.items():
        (state / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    next_one = folder / "..data_tmp"
    next_one.symlink_to(moment)
    next_one.rename(folder / "..data")
    return folder


def hosts(folder: Path, name: str, text: str) -> Path:
    """Make what kubelet writes for each pod."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_files_that_kubelet_makes_for_each_pod_are_those_of_the_new_one(
    container_bench: Bench, folder: Path
) -> None:
    names = ("hosts", "resolv.conf", "termination-log")

    def mounted(pod: str, moment: str, text: str) -> dict[str, Path]:
        config = volume(folder / pod / "config", moment, key=text, other="o" * len(text))
        single = volume(folder / pod / "single", moment, **{"app.conf": text})
        files = {name: hosts(folder / pod / "files", name, f"{pod} {text}") for name in names}
        return {
            "/etc/hosts": files["hosts"],
            "/etc/resolv.conf": files["resolv.conf"],
            "/etc/config": config,
            "/etc/issue.net": single / moment / "app.conf",
        }

    container_bench.volumes = mounted("one", _OLD, "old")
    words = ("/etc/hosts", "/etc/resolv.conf", "+/etc/hostname", "/etc/issue.net")
    job = container_bench.begin("windows", "fresh", *words, "/etc/config/key", "/etc/config/..data", "/etc/config")
    job.prove()
    container_bench.volumes = mounted("two", _NEW, "new and longer")
    moved = container_bench.move(job)
    moved.prove()
    again = container_bench.move(moved)
    again.prove()
    assert again.finish() == 0, again.stderr.text()


def test_what_the_new_container_does_not_have_is_empty_and_harms_nobody(
    container_bench: Bench, folder: Path
) -> None:
    container_bench.volumes = {"/etc/config": volume(folder / "one", _OLD, key="old", gone="gone")}
    job = container_bench.begin("windows", "any", "/etc/config/key", "/etc/config/gone", "/etc/config/..data")
    job.prove()
    container_bench.volumes = {"/etc/config": volume(folder / "two", _NEW, key="new")}
    moved = container_bench.move(job)
    moved.prove()
    assert moved.finish() == 0, moved.stderr.text()


def test_a_token_that_was_renewed_while_it_was_open_is_still_the_old_one(
    container_bench: Bench, folder: Path
) -> None:
    container_bench.volumes = {"/etc/token": volume(folder / "one", _OLD, token="old")}
    job = container_bench.begin("files_of_a_moment", "/etc/token/token")
    job.prove()
    volume(folder / "one", _NEW, token="renewed")
    shutil.rmtree(folder / "one" / _OLD)
    container_bench.volumes = {"/etc/token": volume(folder / "two", _NEW, token="another pod's")}
    moved = container_bench.move(job)
    moved.prove()
    assert moved.finish() == 0, moved.stderr.text()


def test_a_job_sees_the_host_name_of_its_new_container(container_bench: Bench) -> None:
    job = container_bench.begin("naming")
    job.prove()
    moved = container_bench.move(job)
    moved.prove()
    names = [each.stdout.text().splitlines()[-2] for each in (job, moved)]
    assert len(set(names)) == 2
    assert moved.finish() == 0, moved.stderr.text()


def test_windows_into_the_kernel_stay_open(bench: Bench) -> None:
    words = ("/proc/self/status", "/proc/meminfo", "/proc/net/dev", "/proc/1/stat", "/proc/self/fd", "/proc")
    tree = ("/sys/devices/system/cpu/online", "/sys/fs/cgroup", "/sys/class/net/lo/mtu")
    job = bench.begin("windows", "any", *words, *tree)
    for _ in range(2):
        job.prove()
        job = bench.move(job)
    job.prove()
    assert job.finish() == 0, job.stderr.text()
