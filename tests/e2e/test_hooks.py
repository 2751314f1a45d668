"""Jobs that take part in their moves: they hear of them, or save themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

import crikpy.job
from crikpy import names
from tests.e2e.cluster import Cluster
from tests.e2e.kubectl import wait_for
from tests.e2e.pods import Namespace, assert_goes_on
from tests.e2e.workloads import COUNT, counting, deployment, job, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

MODULE = Path(crikpy.job.__file__).read_text()
"""The module as a job's image would hold a copy of it."""

HEARING = f"""{MODULE}
on_checkpoint(lambda coming: print("heard checkpoint", flush=True))
on_restore(lambda told: print("heard", told.outcome, told.environment["HOSTNAME"], told.hostname, flush=True))
{COUNT}"""

KEEPING = """
import os, secrets, signal, sys, time
kept, asked = "/data/kept", []
life, first = open(kept).read().split() if os.path.exists(kept) else (secrets.token_hex(4), 0)
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
for step in range(int(first), int(sys.argv[1])):
    print(f"life={life} step={step} pid={os.getpid()}", flush=True)
    time.sleep(0.25)
    if asked:
        with open(kept, "w") as file:
            file.write(f"{life} {step + 1}")
        sys.exit(0)
"""
"""Counts on from what it has written itself, and writes that when it is asked to end."""


def test_a_job_hears_of_its_move_and_learns_the_name_of_its_new_pod(installed: Cluster, place: Namespace) -> None:
    place.apply(job("hearing", template(counting(program=HEARING), app="hearing")))
    (pod,) = place.watch("hearing")
    place.evict(pod)
    after = place.replacement("hearing", pod)
    name = after["metadata"]["name"]
    assert_goes_on(pod.counts(), wait_for("some steps", lambda: place.counts(name)))
    wait_for("what it has heard", lambda: f"heard moved {name} {name}" in place.log(name))
    assert "heard checkpoint" in pod.log.read_text()
    assert not place.kubectl.events(place.name, reason="HookFailed")


def test_a_job_that_saves_itself_goes_on_from_its_files(installed: Cluster, place: Namespace) -> None:
    notes = {names.MODE: "application", names.APPLICATION_DIRECTORY: "/data"}
    container = counting(program=KEEPING, mounts={"work": "/data"})
    pod_template = template(
        container, app="keeping", annotations=notes, volumes=[{"name": "work", "emptyDir": {}}]
    )
    place.apply(deployment("keeping", pod_template, replicas=1))
    (pod,) = place.watch("keeping")
    place.evict(pod)
    after = place.replacement("keeping", pod)
    counts = wait_for("some steps", lambda: place.counts(after["metadata"]["name"]))
    steps = [count.step for count in pod.counts()] + [count.step for count in counts]
    assert steps == list(range(len(steps)))
    order = place.await_phase(pod, "Restored")
    assert order["status"]["mode"] == "application"
    assert order["status"]["bytes"]["memory"] < 1 << 20, "its memory was not to travel"
