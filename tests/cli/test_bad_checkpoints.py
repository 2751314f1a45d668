"""Checkpoints that cannot be resumed: damaged, incomplete, of another machine, of the future."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crikpy import names
from crikpy.errors import (
    CheckpointNotFoundError,
    CrikpyError,
    FormatVersionError,
    IncompatibleError,
    IntegrityError,
)
from crikpy.model.manifest import Manifest
from crikpy.store.layout import chunks_prefix, manifest_key, new_checkpoint_id
from crikpy.store.manifests import decode_manifest, encode_manifest
from tests.cli.machines import NAME, Ended, Machine
from tests.integration.capsules import until

pytestmark = pytest.mark.criu

STARTED = ("echo", "started afresh")
STRICT = ("--restore-failure", "fail")
_SECONDS = len("20250131T120000Z")


def manifest_of(machine: Machine) -> Path:
    """Return where the manifest of the machine's one checkpoint lies."""
    return Path(machine.store, manifest_key(machine.checkpoints().workload, machine.newest()))


def rewrite(machine: Machine, change: Callable[[Manifest], Manifest]) -> Manifest:
    """Change the manifest so that it is sound and says something else; return what it said."""
    path = manifest_of(machine)
    old = decode_manifest(path.read_bytes())
    path.write_bytes(encode_manifest(change(old)))
    return old


def flip_a_byte_of_every_chunk(machine: Machine) -> int:
    """Damage all chunks; return how many there are."""
    folder = Path(machine.store, chunks_prefix(machine.checkpoints().workload))
    chunks = [path for path in folder.rglob("*") if path.is_file()]
    for path in chunks:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    return len(chunks)


def run_afresh(machine: Machine) -> Ended:
    """Run the name, and see that the command was started in place of the checkpoint."""
    ended = machine.run(*STARTED).wait()
    assert ended.status == 0, ended.err
    assert ended.out == "started afresh\n"
    assert "starting from the beginning instead: " in ended.err
    assert "Traceback" not in ended.err
    return ended


def test_restore_of_nothing_starts_nothing(machine: Machine) -> None:
    machine.of_store("list")
    machine.of_store("restore", NAME).require(CheckpointNotFoundError, NAME)


def test_a_checkpoint_without_manifest_is_none(heir: Machine) -> None:
    manifest_of(heir).unlink()
    assert heir.states() == ["incomplete"]
    heir.of_store("verify", NAME).require(CheckpointNotFoundError, NAME)
    heir.of_store("restore", NAME).require(CheckpointNotFoundError, NAME)
    ended = heir.run(*STARTED).wait()
    assert (ended.status, ended.out) == (0, "started afresh\n")


def test_verify_finds_every_damaged_chunk(heir: Machine) -> None:
    count = flip_a_byte_of_every_chunk(heir)
    told = heir.of_store("verify", NAME)
    told.require(IntegrityError, heir.newest(), f"{count} of its chunks")
    assert told.err.count("  | ") == count
    told = heir.of_store("verify", NAME, "--output=json")
    assert told.status == IntegrityError.exit_code
    facts = json.loads(told.out)
    assert facts["sound"] is False
    assert len(facts["faults"]) == count


def test_a_damaged_chunk_means_a_fresh_start_and_quarantine(heir: Machine) -> None:
    flip_a_byte_of_every_chunk(heir)
    run_afresh(heir)
    assert heir.states() == ["quarantined"]
    heir.of_store("restore", NAME).require(CheckpointNotFoundError, NAME)


def test_a_damaged_chunk_is_an_error_when_asked_for(heir: Machine) -> None:
    flip_a_byte_of_every_chunk(heir)
    ended = heir.run(*STARTED, options=STRICT).wait()
    ended.require(IntegrityError)
    assert ended.out == ""
    assert heir.states() == ["quarantined"]


def truncate(machine: Machine) -> None:
    path = manifest_of(machine)
    path.write_bytes(path.read_bytes()[:-100])


def outdate(machine: Machine) -> None:
    path = manifest_of(machine)
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":99'))


UNREADABLE = [(truncate, IntegrityError, "damaged"), (outdate, FormatVersionError, "format 99")]


@pytest.mark.parametrize(("spoil", "kind", "word"), UNREADABLE)
def test_a_manifest_that_cannot_be_read_is_reported_by_every_command(
    heir: Machine, spoil: Callable[[Machine], None], kind: type[CrikpyError], word: str
) -> None:
    spoil(heir)
    assert heir.states() == ["damaged"]
    for command in ("show", "verify", "restore"):
        heir.of_store(command, NAME).require(kind, word)
    assert heir.of_store("gc").status == kind.exit_code


@pytest.mark.parametrize(("spoil", "kind", "word"), UNREADABLE)
def test_a_manifest_that_cannot_be_read_means_a_fresh_start_unless_told_otherwise(
    heir: Machine, spoil: Callable[[Machine], None], kind: type[CrikpyError], word: str
) -> None:
    spoil(heir)
    ended = heir.run(*STARTED, options=STRICT).wait()
    ended.require(kind, word)
    assert ended.out == ""
    assert word in run_afresh(heir).err


def another_machine(manifest: Manifest) -> Manifest:
    """Return a manifest that differs in everything that matters."""
    fit, file = manifest.compatibility, manifest.open_files[0]
    return replace(
        manifest,
        compatibility=replace(
            fit,
            page_size=fit.page_size * 16,
            criu="99.1",
            cpu_model="Imaginary 9000",
            cpu_features=(*fit.cpu_features, "avx9000"),
        ),
        open_files=(
            replace(file, size=file.size + 1),
            *manifest.open_files[1:],
            replace(file, path="/no/such.so"),
        ),
    )


def test_a_checkpoint_that_does_not_fit_is_refused_in_one_message_and_kept(heir: Machine) -> None:
    was = rewrite(heir, another_machine)
    file = was.open_files[0]
    for ended in (heir.run(*STARTED, options=STRICT).wait(), heir.of_store("restore", NAME)):
        ended.require(
            IncompatibleError,
            was.checkpoint,
            f"page size: dumped with {was.compatibility.page_size * 16} bytes",
            "CRIU: dumped with 99.1",
            "lacks avx9000",
            "Imaginary 9000",
            f"file {file.path} has {file.size} bytes here, {file.size + 1} there",
            "file /no/such.so is missing here",
        )
        assert ended.out == ""
        assert heir.states() == ["resumable"]


def test_of_another_architecture_nothing_else_is_said(heir: Machine) -> None:
    rewrite(heir, lambda old: replace(old, compatibility=replace(old.compatibility, architecture="s390x")))
    heir.of_store("restore", NAME).require(IncompatibleError, "architecture: dumped on s390x")


def test_a_checkpoint_that_does_not_fit_means_a_fresh_start_and_stays_unclaimed_while_the_job_runs(
    heir: Machine,
) -> None:
    rewrite(heir, another_machine)
    run = heir.start("ending", 4)
    assert "starting from the beginning instead: " in run.stderr.text()
    assert heir.states() == ["resumable"]
    assert run.finish().status == 4
    assert heir.states() == ["finished"]


def test_a_checkpoint_is_resumed_once(heir: Machine) -> None:
    run = heir.run("false")
    run.hear("the job goes on")
    assert heir.states() == ["resumed"]
    assert run.finish().status == 7
    ended = heir.run(*STARTED).wait()
    assert (ended.status, ended.out) == (0, "started afresh\n")


def test_an_older_checkpoint_stands_in_for_a_damaged_newer_one(heir: Machine) -> None:
    run = heir.run("false")
    run.hear("the job goes on")
    assert heir.crikpy("checkpoint", NAME, "--leave-running").status == 0
    older = heir.newest()
    until(lambda: new_checkpoint_id()[:_SECONDS] > older[:_SECONDS], "the next second, for which a new id stands")
    assert run.terminate().status == names.EXIT_CHECKPOINTED
    assert heir.newest() != older
    truncate(heir)
    again = heir.run("false")
    again.hear("the job goes on")
    assert f"resuming checkpoint {older}" in again.stderr.text()
    assert again.finish().status == 7
