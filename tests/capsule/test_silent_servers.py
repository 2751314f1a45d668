"""A filesystem whose server is silent keeps nobody who looks at a job that has files of it open."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from crikpy.capsule.changes import any_stays, plan_directories
from crikpy.capsule.preflight import Survey
from crikpy.capsule.surveying import survey
from tests.capsule import silent

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/fuse").exists(), reason="needs root and FUSE, to make such a filesystem"
)

_HOLDS = (
    "import mmap, os, sys; fd = os.open(sys.argv[1], os.O_RDONLY);"
    "kept = mmap.mmap(fd, 4096, prot=mmap.PROT_READ); print(flush=True); sys.stdin.read()"
)


def test_a_job_with_files_of_a_silent_server_is_looked_at_all_the_same(tmp_path: Path) -> None:
    found: list[Survey] = []
    with silent.mounted(tmp_path) as fall_silent:
        words = [sys.executable, "-c", _HOLDS, str(tmp_path / "f")]
        job = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert job.stdout is not None
        assert job.stdout.readline() == b"\n"
        fall_silent()
        look = threading.Thread(target=lambda: found.append(survey([job.pid])), daemon=True)
        look.start()
        look.join(10.0)
        kept = look.is_alive()
    job.communicate()  # only now: it could not close the file before
    look.join()
    assert not kept, "the server's silence was waited for"
    assert [(file.path, file.size) for file in found[0].files if file.path.startswith(str(tmp_path))] == [
        (str(tmp_path / "f"), 8192)
    ]


def test_a_directory_of_a_server_stays_there_when_a_job_saves_itself_in_it(tmp_path: Path) -> None:
    served, own = tmp_path / "served", tmp_path / "own"
    served.mkdir()
    own.mkdir()
    with silent.mounted(served):
        here = Path("/proc/self")
        assert [tree.root for tree in plan_directories([str(served), str(own)], here)] == [str(own)]
        assert any_stays([str(own), str(served)], here)
        assert not any_stays([str(own)], here)
