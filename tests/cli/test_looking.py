"""The commands that look into a store: list, show, verify, rm and gc, for people and for programs."""

from __future__ import annotations

import json
import os

import pytest

from crikpy.errors import CheckpointNotFoundError, UsageError
from tests.cli.machines import NAME, Machine

pytestmark = pytest.mark.criu

ABSENT = "20250131T120000Z-0123abcd"


def test_list_shows_each_checkpoint_in_a_line(saved: Machine) -> None:
    listed = saved.of_store("list")
    head, line = listed.out.splitlines()
    assert head.split()[:3] == ["JOB", "CHECKPOINT", "STATE"]
    assert line.split()[:3] == [NAME, saved.newest(), "resumable"]
    assert "NodeShutdown" in line
    assert listed.err == ""


def test_list_as_json_holds_the_same(saved: Machine) -> None:
    [entry] = json.loads(saved.of_store("list", NAME, "--output", "json").out)
    assert entry["id"] == saved.newest()
    assert entry["state"] == "resumable"
    assert entry["complete"] is True
    assert entry["trigger"] == "NodeShutdown"
    assert entry["host"] == os.uname().nodename
    assert entry["sizes"]["stored_bytes"] > 0


def test_list_of_a_name_without_checkpoints_is_empty(saved: Machine) -> None:
    assert saved.of_store("list", "nobody").out == ""
    assert json.loads(saved.of_store("list", "nobody", "--output=json").out) == []
    assert json.loads(saved.of_store("list", "--namespace", "elsewhere", "--output=json").out) == []


def test_show_tells_what_a_checkpoint_consists_of(saved: Machine) -> None:
    shown = saved.of_store("show", NAME).out
    for fact in (
        saved.newest(),
        "tests.jobs.ending 7",
        "NodeShutdown",
        os.uname().release,
        "CPU features",
        "RESIDENT",
    ):
        assert fact in shown, shown


def test_show_as_json_holds_the_whole_manifest_but_for_its_chunks(saved: Machine) -> None:
    facts = json.loads(saved.of_store("show", NAME, saved.newest(), "--output=json").out)
    assert facts["state"] == "resumable"
    [process] = facts["job"]["processes"]
    assert process["resident_bytes"] > process["anonymous_bytes"] > 0
    assert process["pid"] == facts["job"]["root_pid"]
    assert facts["compatibility"]["kernel"] == os.uname().release
    assert "sse2" in facts["compatibility"]["cpu_features"]
    assert all(image.keys() == {"name", "size"} for image in facts["images"])
    assert any("libc.so" in file["path"] for file in facts["open_files"])


@pytest.mark.parametrize("command", ["show", "verify", "rm"])
def test_a_checkpoint_that_is_not_there_is_said_not_to_be(saved: Machine, command: str) -> None:
    saved.of_store(command, NAME, ABSENT).require(CheckpointNotFoundError, ABSENT)


@pytest.mark.parametrize("command", ["show", "verify", "rm"])
def test_a_word_that_is_no_checkpoints_id_is_said_to_be_none(saved: Machine, command: str) -> None:
    saved.of_store(command, NAME, "../../up").require(UsageError, "'../../up'")


@pytest.mark.parametrize("command", ["show", "verify"])
def test_a_job_without_checkpoints_is_said_to_have_none(saved: Machine, command: str) -> None:
    saved.of_store(command, "nobody").require(CheckpointNotFoundError, "nobody")


def test_verify_reads_the_whole_checkpoint(saved: Machine) -> None:
    told = saved.of_store("verify", NAME)
    assert told.status == 0, told.err
    assert f"{saved.newest()}: sound" in told.out
    facts = json.loads(saved.of_store("verify", NAME, "--output=json").out)
    assert facts == {"checkpoint": saved.newest(), "sound": True, "faults": []}


def test_rm_removes_a_checkpoint_and_gc_its_chunks(heir: Machine) -> None:
    identity = heir.newest()
    assert heir.of_store("rm", NAME, identity).out == f"removed {identity}; `crikpy gc` frees its room\n"
    assert heir.states() == []
    [planned] = json.loads(heir.of_store("gc", "--min-age", "0s", "--output=json").out)
    assert planned["chunks"] > 0
    assert planned["bytes"] > 0
    assert planned["deleted"] is False
    removed = heir.of_store("gc", "--min-age", "0s", "--delete")
    assert f"removed {planned['chunks']} chunks" in removed.out
    after = heir.of_store("gc", "--min-age", "0s")
    assert "would remove 0 chunks" in after.out
    assert "nothing was removed; add --delete to do it" in after.err


def test_rm_as_json_names_what_was_removed(heir: Machine) -> None:
    identity = heir.newest()
    assert json.loads(heir.of_store("rm", NAME, identity, "--output=json").out) == {"removed": identity}


def test_gc_spares_what_a_checkpoint_needs_and_what_is_young(heir: Machine) -> None:
    heir.of_store("gc", "--min-age", "0s", "--delete")
    assert heir.of_store("verify", NAME).status == 0
    heir.of_store("rm", NAME, heir.newest())
    [planned] = json.loads(heir.of_store("gc", "--output=json").out)
    assert planned["chunks"] == 0


def test_gc_removes_what_has_expired_and_its_chunks(heir: Machine) -> None:
    identity = heir.newest()
    [spared] = json.loads(heir.of_store("gc", "--expired", "--output=json").out)
    assert spared["expired"] == []
    told = heir.of_store("gc", "--expired", "--ttl", "0s", "--min-age", "0s")
    assert f"would remove {identity}, taken at" in told.out
    assert heir.newest() == identity
    told = heir.of_store("gc", "--expired", "--ttl", "0s", "--min-age", "0s", "--delete")
    assert f"removed {identity}, taken at" in told.out
    assert heir.states() == []
    assert "removed 0 chunks" not in told.out


def test_gc_refuses_a_ttl_that_would_do_nothing(saved: Machine) -> None:
    told = saved.of_store("gc", "--ttl", "30d")
    assert told.status == UsageError.exit_code
    assert "--expired" in told.err


def test_gc_refuses_an_age_without_a_unit(saved: Machine) -> None:
    told = saved.of_store("gc", "--min-age", "24")
    assert told.status == UsageError.exit_code
    assert "24h" in told.err
