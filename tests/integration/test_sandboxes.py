"""A job with a sandbox inside, whose processes are in namespaces of their own, is refused and left as it was."""

from __future__ import annotations

import psutil
import pytest

from crikpy.errors import UnsupportedJobError
from tests.integration.moving import Bench, Story

pytestmark = pytest.mark.criu


def test_a_sandbox_in_a_pid_namespace_of_its_own_is_refused_and_not_stopped(plain_bench: Bench) -> None:
    job = plain_bench.begin("awkward", "sandbox", "/")
    story = Story()
    with pytest.raises(UnsupportedJobError, match="1 processes in a PID namespace of its own"):
        plain_bench.save(job, story)
    assert story.events == []
    family = psutil.Process(job.launcher_pid).children(recursive=True)
    assert len(family) == 2
    assert psutil.STATUS_STOPPED not in {process.status() for process in family}
    job.prove()
