"""`crikpy check` says what is wrong with a node, and is silent about what is not."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from crikpy import names, settings
from crikpy.aio.clock import Deadline
from crikpy.criu import features, verdicts
from crikpy.errors import CriuMissingError, DeadlineError
from crikpy.model.health import Finding, Verdict
from crikpy.settings import CriuSettings, RunSettings, Settings

STATUS = """\
Name:	python3
Uid:	0	0	0	0
CapInh:	0000000000000000
CapEff:	{effective}
CapBnd:	000001ffffffffff
NoNewPrivs:	0
Seccomp:	{seccomp}
Seccomp_filters:	0
"""
ALL = "000001ffffffffff"

MEMINFO = """\
MemTotal:       24684084 kB
MemFree:        24128360 kB
MemAvailable:    1048576 kB
SwapTotal:             0 kB
"""

WHOLE_NODE = "0 0 4294967295"


def status(effective: str = ALL, seccomp: int = 0) -> str:
    return STATUS.format(effective=effective, seccomp=seccomp)


def without(*bits: int) -> str:
    return status(f"{int(ALL, 16) & ~sum(1 << bit for bit in bits):016x}")


def elf(*kinds: int) -> bytes:
    """A 64-bit program that has segments of these kinds and nothing else."""
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0, 64, 0, 0, 64, 56, len(kinds), 0, 0, 0
    )
    return head + b"".join(struct.pack("<I52x", kind) for kind in kinds)


MOUNT = "30 24 0:26 / /sys/fs/cgroup{sub} {options},relatime shared:9 - {kind} cgroup rw"
V2 = MOUNT.format(sub="", options="rw", kind="cgroup2")
V1 = MOUNT.format(sub="/memory", options="rw", kind="cgroup")
ROOT_MOUNT = "24 1 8:1 / / ro,relatime shared:1 - ext4 /dev/root ro"

OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED

JUDGED = [
    (verdicts.root(0, WHOLE_NODE), OK, "running as root"),
    (verdicts.root(1000, WHOLE_NODE), FAILED, "uid 1000"),
    (verdicts.root(0, "         0       1000          1\n"), FAILED, "user namespace"),
    (verdicts.capabilities(status()), OK, ""),
    (verdicts.capabilities(without(24)), OK, ""),
    (verdicts.capabilities(without(12, 19)), FAILED, "CAP_NET_ADMIN, CAP_SYS_PTRACE"),
    (verdicts.other_uids(hides_limits=False, library="/x/limits.so", present=False), OK, "any uid"),
    (verdicts.other_uids(hides_limits=True, library="/x/limits.so", present=True), OK, "limits come from /proc"),
    (verdicts.other_uids(hides_limits=True, library="/x/limits.so", present=False), WARNING, "no /x/limits.so"),
    (verdicts.seccomp(status()), OK, ""),
    (verdicts.seccomp(status(seccomp=2)), WARNING, "seccomp filter"),
    (verdicts.architecture("x86_64"), OK, ""),
    (verdicts.architecture("aarch64"), FAILED, "aarch64"),
    (verdicts.kernel("5.9.0"), OK, ""),
    (verdicts.kernel("6.1.0-49-cloud-amd64"), OK, ""),
    (verdicts.kernel("5.8.18"), FAILED, "too old"),
    (verdicts.kernel("4.19.0"), FAILED, "too old"),
    (verdicts.namespaces(frozenset({"mnt", "pid", "net", "ipc", "uts", "cgroup", "time"})), OK, ""),
    (verdicts.namespaces(frozenset({"mnt", "pid", "net", "ipc", "uts", "cgroup"})), WARNING, "clocks leap"),
    (verdicts.namespaces(frozenset({"mnt", "pid", "ipc", "uts", "cgroup"})), FAILED, "no net"),
    (verdicts.feature("x", present=True, what="walking", remedy="run"), OK, "walking"),
    (verdicts.feature("x", present=False, what="walking", remedy="run"), FAILED, "not possible: walking"),
    (verdicts.informative("x", present=False, what="walking"), OK, "not needed"),
    (verdicts.ptrace(reads_rseq=True), OK, ""),
    (verdicts.ptrace(reads_rseq=False), WARNING, "rseq"),
    (verdicts.pid_range("32768\n"), OK, "32768"),
    (verdicts.pid_range("4194304\n"), OK, ""),
    (verdicts.pid_range("9000\n"), FAILED, "end at 9000"),
    (verdicts.socket_diag(()), OK, ""),
    (verdicts.socket_diag(("udp_diag", "unix_diag")), WARNING, "udp_diag, unix_diag"),
    (verdicts.yama(None, 0), OK, "no Yama"),
    (verdicts.yama("1\n", 1000), OK, "ptrace_scope 1"),
    (verdicts.yama("2\n", 0), OK, "ptrace_scope 2"),
    (verdicts.yama("2\n", 1000), WARNING, "only root"),
    (verdicts.yama("3\n", 0), FAILED, "nobody"),
    (verdicts.io_uring("2\n"), OK, "off"),
    (verdicts.io_uring("1\n"), OK, "cannot be saved"),
    (verdicts.io_uring(None), OK, "cannot be saved"),
    (verdicts.cgroup(f"{ROOT_MOUNT}\n{V2}"), OK, "v2"),
    (verdicts.cgroup(f"{ROOT_MOUNT}\n{V1}"), OK, "v1"),
    (verdicts.cgroup(f"{V1}\n{V2}"), OK, "hybrid"),
    (verdicts.cgroup(V2.replace("rw,", "ro,")), WARNING, "read-only"),
    (verdicts.cgroup(ROOT_MOUNT), WARNING, "none"),
    (verdicts.memory(MEMINFO, 2**29), OK, "1.0 GiB available"),
    (verdicts.memory(MEMINFO, 2**31), WARNING, "may use 2.0 GiB"),
    (verdicts.swap(MEMINFO), OK, "none"),
    (verdicts.swap("SwapTotal: 2097152 kB"), OK, "2.0 GiB"),
    (verdicts.space("x", "/d", free_bytes=2**30, read_only=False, needed_bytes=2**30), OK, "1.0 GiB free in /d"),
    (verdicts.space("x", "/d", free_bytes=2**29, read_only=False, needed_bytes=2**30), WARNING, "512 MiB free"),
    (verdicts.space("x", "/d", free_bytes=4096, read_only=False, needed_bytes=2**30), FAILED, "0 MiB free"),
    (verdicts.space("x", "/d", free_bytes=2**40, read_only=True, needed_bytes=1), FAILED, "read-only"),
    (verdicts.bundle("4.2.1", "4.2.1\n"), OK, "4.2.1"),
    (verdicts.bundle("4.10", "4.10\n"), OK, "4.10"),
    (verdicts.bundle("4.2", "4.2"), FAILED, "cannot dump IP sockets on kernel 6.16"),
    (verdicts.bundle("4.1.1", "4.1.1\n"), FAILED, "cannot dump IP sockets on kernel 6.16"),
    (verdicts.bundle("4.3", "4.2.1\n"), WARNING, "says '4.2.1'"),
    (verdicts.criu_check(0, "Warn (criu/x.c:1): odd\nLooks good.\n"), OK, "Looks good."),
    (verdicts.criu_check(1, "\n".join("abcdefg")), FAILED, "c; d; e; f; g"),
    (verdicts.criu_check(-9, ""), FAILED, "exit status -9"),
    (verdicts.launcher(elf(1), 0, "crikpy-launch 1\n"), OK, "crikpy-launch 1"),
    (verdicts.launcher(elf(1, 3), 0, "crikpy-launch 1\n"), FAILED, "not a static program"),
    (verdicts.launcher(b"#!/bin/sh\n", 0, "crikpy-launch 1\n"), FAILED, "not a static program"),
    (verdicts.launcher(elf(1), 0, "crikpy-launch 2\n"), FAILED, "expected 'crikpy-launch 1'"),
    (verdicts.launcher(elf(1), 126, ""), FAILED, "exit status 126"),
]


@pytest.mark.parametrize(("finding", "verdict", "fact"), JUDGED)
def test_a_fact_has_its_verdict(finding: Finding, verdict: Verdict, fact: str) -> None:
    assert (finding.verdict, fact in finding.fact) == (verdict, True), finding
    assert bool(finding.remedy) is (verdict is not OK)


@pytest.mark.parametrize(
    "program", [b"", b"\x7fELF", elf(), elf(1)[:-10], elf(1).replace(b"\x02\x01", b"\x01\x01", 1)]
)
def test_a_broken_program_is_not_a_static_one(program: bytes) -> None:
    assert not verdicts.is_static_elf(program)


def test_the_real_python_is_not_static() -> None:
    assert not verdicts.is_static_elf(Path(sys.executable).resolve().read_bytes())


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def fake_bundle(folder: Path, text: str) -> Path:
    """A bundle whose loader is a script that plays CRIU."""
    program(folder / "lib" / names.BUNDLE_LOADER, text)
    (folder / "criu").touch()
    (folder / "VERSION").write_text("4.2.1\n")
    return folder


SOON = 20.0


def test_the_version_of_a_bundle_is_what_its_program_says(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path, "echo Version: 4.3; echo GitID: v4.3")
    assert features.criu_version(bundle, Deadline.after(SOON)) == "4.3"


def test_no_bundle_is_an_error_that_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(CriuMissingError, match="no CRIU bundle") as caught:
        features.criu_version(tmp_path / "nowhere", Deadline.after(SOON))
    assert "hack/criu-bundle" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo Version: 4.1.1", "4.1.1 cannot dump IP sockets on kernel 6.16"),
        ("echo Version: none", "not CRIU"),
        ("echo hello", "not CRIU"),
        ("echo Version: 4.2.1; exit 3", "status 3"),
    ],
)
def test_a_criu_that_does_not_work_is_an_error_that_says_why(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(CriuMissingError, match=reason):
        features.criu_version(fake_bundle(tmp_path, text), Deadline.after(SOON))


def test_a_loader_that_is_no_program_is_an_error(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path, "")
    (bundle / "lib" / names.BUNDLE_LOADER).write_bytes(b"\x00" * 100)
    with pytest.raises(CriuMissingError, match="cannot be run"):
        features.criu_version(bundle, Deadline.after(SOON))


def test_a_criu_that_hangs_is_killed_at_the_deadline(tmp_path: Path) -> None:
    with pytest.raises(DeadlineError):
        features.criu_version(fake_bundle(tmp_path, "sleep 600"), Deadline.after(0.2))


def settings_for(tmp_path: Path, criu: str = "echo Version: 4.2.1") -> Settings:
    return Settings(
        criu=CriuSettings(bundle=fake_bundle(tmp_path / "bundle", criu), launcher=tmp_path / "launch"),
        run=RunSettings(run_dir=tmp_path / "deep" / "run", lib_dir=tmp_path),
    )


def by_name(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    found = {finding.name: finding for finding in findings}
    assert len(found) == len(findings), "names are unique"
    return found


def test_this_kernel_can_save_jobs(tmp_path: Path) -> None:
    found = by_name(features.check_node(settings_for(tmp_path), deadline=Deadline.after(SOON)))
    for name in ("kernel", "namespaces", "set-tid", "pidfd", "ptrace", "pid-range", "run-dir", "lib-dir", "criu"):
        assert found[name].verdict is not FAILED, found[name]
    assert all(bool(finding.remedy) is (finding.verdict is not OK) for finding in found.values())


def test_one_screen_shows_all_of_it(tmp_path: Path) -> None:
    assert len(features.check_node(settings_for(tmp_path), deadline=Deadline.after(SOON))) <= 30


def test_what_is_missing_is_said_without_hiding_the_rest(tmp_path: Path) -> None:
    nothing = Settings(criu=CriuSettings(bundle=tmp_path / "a", launcher=tmp_path / "b"))
    found = by_name(features.check_node(nothing, deadline=Deadline.after(SOON)))
    assert [found[name].verdict for name in ("criu", "criu-check", "launcher")] == [FAILED] * 3
    assert found["kernel"].verdict is OK


def test_a_kernel_that_criu_refuses_is_told_in_criu_s_words(tmp_path: Path) -> None:
    criu = 'case "$*" in *--version*) echo Version: 4.2.1;; *) echo "Error: no timerfd"; exit 1;; esac'
    found = by_name(features.check_node(settings_for(tmp_path, criu), deadline=Deadline.after(SOON)))
    assert found["criu"].verdict is OK
    assert (found["criu-check"].verdict, found["criu-check"].fact) == (FAILED, "Error: no timerfd")


def test_past_the_deadline_nothing_is_ok(tmp_path: Path) -> None:
    findings = features.check_node(settings_for(tmp_path), deadline=Deadline.after(0))
    assert {finding.verdict for finding in findings} <= {WARNING, FAILED}
    assert "out of time" in findings[0].fact


def test_a_launcher_is_run_to_learn_its_protocol(tmp_path: Path) -> None:
    program(tmp_path / "launch", "echo crikpy-launch 1")
    found = by_name(features.check_node(settings_for(tmp_path), deadline=Deadline.after(SOON)))
    assert found["launcher"].fact.startswith("not a static program")


ASK = """
import os
from crikpy.aio.clock import Deadline
from crikpy.criu.features import check_node
from crikpy.settings import Settings
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for finding in check_node(Settings(), deadline=Deadline.after(20)):
    print(finding.name, finding.verdict)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_root_the_check_says_so_and_does_not_fall_over() -> None:
    asked = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    said = dict(line.split() for line in asked.stdout.splitlines())
    assert [said[name] for name in ("root", "capabilities")] == ["failed"] * 2
    assert said["kernel"] == "ok"


@pytest.mark.criu
def test_the_real_bundle_and_this_kernel_go_together() -> None:
    ours = settings.from_env(os.environ)
    if not ours.criu.bundle.exists():
        pytest.skip(f"no CRIU bundle at {ours.criu.bundle}; hack/test makes one")
    found = by_name(features.check_node(ours, deadline=Deadline.after(60)))
    assert [found[name].verdict for name in ("criu", "criu-check", "launcher")] == [OK] * 3
    assert features.criu_version(ours.criu.bundle, Deadline.after(20)) == found["criu"].fact


def test_amx_without_its_library_costs_some_jobs_and_only_these() -> None:
    assert verdicts.tiles(has_amx=False, library="/x/tiles.so", present=False).verdict is Verdict.OK
    assert verdicts.tiles(has_amx=True, library="/x/tiles.so", present=True).verdict is Verdict.OK
    missing = verdicts.tiles(has_amx=True, library="/x/tiles.so", present=False)
    assert missing.verdict is Verdict.WARNING
    assert "/x/tiles.so" in missing.fact
