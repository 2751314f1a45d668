"""A checkpoint moves between two kernels and CPU models, or is refused with the reason; the job never crashes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from crikpy.errors import IncompatibleError
from crikpy.names import EXIT_CHECKPOINTED
from tests.cli.machines import NAME, Machine
from tests.integration.capsules import ROOT

pytestmark = [
    pytest.mark.criu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        "CRIKPY_TEST_VM" not in os.environ, reason="boots a virtual machine; hack/test vm asks for it"
    ),
]

_COUNT = "i=0; while true; do echo count $i; i=$((i+1)); sleep 0.2; done"
_JOB = ("busybox", "sh", "-c", _COUNT)
_REFUSAL = "does not fit this machine: "


@dataclass(frozen=True, slots=True, kw_only=True)
class InVm:
    """What a command in the virtual machine did."""

    status: int
    out: str
    err: str


def _in_vm(machine: Machine, script: str, *, put: Path | None = None, get: Path | None = None) -> InVm:
    """Run a script there; `put` is its /in, what it leaves in /out comes to `get`."""
    options = [*(("--input", str(put)) if put else ()), *(("--output", str(get)) if get else ())]
    variables = (
        f"export CRIKPY_NOTICES_IMDS_ENABLED=false CRIKPY_RUN_LIB_DIR={shlex.quote(str(machine.lib_dir))}; "
    )
    done = subprocess.run(
        ("hack/vm", "run", "--timeout", "300", *options, "--", "bash", "-c", variables + script),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=550,
    )
    return InVm(status=done.returncode, out=done.stdout, err=done.stderr)


def _run_words(store: str) -> str:
    words = (
        "/opt/venv/bin/crikpy",
        "run",
        "--name",
        NAME,
        "--store",
        store,
        "--restore-failure=fail",
        "--",
        *_JOB,
    )
    return shlex.join(words)


def test_a_checkpoint_of_the_host_goes_on_in_the_machine_or_is_refused_with_the_reason(
    machine: Machine, folder: Path
) -> None:
    run = machine.run(*_JOB)
    run.expect("count 3")
    assert run.terminate().status == EXIT_CHECKPOINTED
    shutil.copytree(machine.store, folder / "put" / "store")
    there = _in_vm(
        machine,
        f"cp -r /in/store /var/store; timeout 60 {_run_words('/var/store')} >/tmp/counts; status=$?; "
        f"/opt/venv/bin/crikpy list --store /var/store --output json; tail -1 /tmp/counts >&2; exit $status",
        put=folder / "put",
    )
    if there.status == IncompatibleError.exit_code:
        assert _REFUSAL in there.err
        assert json.loads(there.out)[-1]["state"] == "resumable"
        assert "count 0" not in there.err
    else:
        assert there.status == EXIT_CHECKPOINTED, there.err
        assert "the job goes on" in there.err


def test_a_checkpoint_of_the_machine_goes_on_on_the_host_or_is_refused_with_the_reason(
    machine: Machine, folder: Path
) -> None:
    (folder / "get").mkdir()
    save = f"mkdir -p /out; timeout 25 {_run_words('/out/store')}"
    there = _in_vm(machine, save, get=folder / "get")
    assert there.status in {EXIT_CHECKPOINTED, 124}, there.err
    assert "is complete" in there.err
    machine.store = str(folder / "get" / "store")
    run = machine.run(*_JOB, options=["--restore-failure=fail"])
    run.hear("resuming checkpoint")
    ended = run.wait() if _is_refused(machine) else run.terminate()
    if ended.status == IncompatibleError.exit_code:
        assert _REFUSAL in ended.err
        assert machine.states() == ["resumable"]
        assert ended.out == "", "nothing may be started in place of a refused checkpoint"
    else:
        assert ended.status == EXIT_CHECKPOINTED, ended.err
        assert "count 0" not in ended.out


def _is_refused(machine: Machine) -> bool:
    """Say whether the newest checkpoint's machine had something that this one lacks."""
    manifest = machine.checkpoints().manifest(machine.newest())
    flags = Path("/proc/cpuinfo").read_text().split()
    return any(feature not in flags for feature in manifest.compatibility.cpu_features)
