"""docs/quickstart-ec2.md, word for word on a machine with systemd, and on the next one made of it.

AWS is played by an S3 server with keys, and by a metadata service at another address than the true one.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kubectl import wait_for
from tests.fakes.imds import tell
from tests.fakes.s3_server import S3Server
from tests.quickstarts.machines import ROOT, SYSTEMD, Machine, why_none

UNIT = ROOT / "daemonset/systemd/crikpy-job@.service"
PAGE = ROOT / "docs/quickstart-ec2.md"
BUCKET = "my-bucket"
JOB = "crikpy-job@count"
_STEP = re.compile(r"^step (\d+) checksum (-?\d+)$", re.MULTILINE)


@pytest.mark.skipif(not SYSTEMD.exists(), reason="needs systemd's programs")
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "opt/crikpy/venv/bin/crikpy"
    program.parent.mkdir(parents=True)
    program.symlink_to("/bin/true")
    unit = tmp_path / "crikpy-job@count.service"
    unit.write_text(UNIT.read_text().replace("/opt/crikpy", str(tmp_path / "opt/crikpy")))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@contextlib.contextmanager
def metadata(folder: Path) -> Iterator[tuple[str, Path]]:
    """A metadata service: its endpoint, and the socket by which it takes orders."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    control = folder / "imds.sock"
    words = [sys.executable, "-m", "tests.fakes.imds", "serve", "--address", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen([*words, "--control", str(control)], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for("the metadata service", control.exists)
            yield f"http://127.0.0.1:{port}", control
        finally:
            process.kill()


def put_in_place(written: Path, environment: dict[str, str]) -> None:
    """Tell units of a machine that is to begin where S3 and the metadata service are, with keys to the former."""
    drop_in = written / "etc/systemd/system/crikpy-job@.service.d/aws.conf"
    drop_in.parent.mkdir(parents=True)
    lines = "".join(f"Environment={name}={value}\n" for name, value in environment.items())
    drop_in.write_text(f"[Service]\n{lines}")


def steps(machine: Machine) -> list[tuple[int, str]]:
    """The steps that a machine's journal has of the job, each with the checksum."""
    said = machine.shell(f"journalctl --unit {JOB} --output cat --no-pager")
    return [(int(step), checksum) for step, checksum in _STEP.findall(said)]


def active(machine: Machine) -> bool:
    """Say whether the job's unit is; one that is not is forgotten, and only the journal tells how it ended."""
    return machine.run("systemctl", "is-active", JOB).stdout.strip() == "active"


@pytest.mark.criu
@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.skipif(bool(why_none()), reason=why_none())
@pytest.mark.timeout(420)
@pytest.mark.lengthy
def test_the_page_s_commands_work_and_its_unit_moves_the_job_at_a_notice(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(S3Server(tmp_path / "s3"))
        server.create_bucket(BUCKET)
        endpoint, control = stack.enter_context(metadata(tmp_path))
        aws = server.environment() | {"CRIKPY_NOTICES_IMDS_ENDPOINT": endpoint}
        put_in_place(tmp_path / "first/written", aws)
        with Machine(tmp_path / "first") as first:
            given = [word for name, value in aws.items() for word in ("--set", f"{name}={value}")]
            done = first.run(ROOT / "hack/quickstart", *given, PAGE, timeout=360)
            assert done.returncode == 0, done.stderr[-4000:]
            before = steps(first)
            assert before[-1][0] > 20
            tell(control, {"do": "spot", "action": "terminate", "in_s": 120})
            wait_for("the unit's end", lambda: not active(first), within_s=60)
            told = first.shell(f"journalctl --unit {JOB} --no-pager").partition("SpotInterruption: terminate")[2]
            assert f"{JOB}.service: Deactivated successfully." in told
            assert "Failed" not in told
            before = steps(first)
        tell(control, {"do": "put", "path": "meta-data/spot/instance-action", "body": None})
        with Machine(tmp_path / "next", like=first) as following:
            following.shell(f"systemctl start {JOB}")
            wait_for("the job's next steps", lambda: len(steps(following)) > 3, within_s=60)
            after = steps(following)
    assert [step for step, _ in before + after] == list(range(1, len(before) + len(after) + 1))
    assert len({checksum for _, checksum in before + after}) == 1, json.dumps(before + after)
