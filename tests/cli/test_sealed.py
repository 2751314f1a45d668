"""A job whose checkpoints are sealed by keys of KMS, and what `crikpy check` says of store and keys."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from crikpy import names
from crikpy.errors import FormatVersionError, NodeError, SettingsError, StoreForbiddenError
from tests.cli.machines import NAME, Ended, Machine
from tests.fakes.aws import FakeAws
from tests.fakes.kms import MAKE, UNWRAP, FakeKms

pytestmark = pytest.mark.criu

ALIAS = "alias/crikpy"


@pytest.fixture
def kms(machine: Machine) -> Iterator[FakeKms]:
    """KMS with a key, by which the machine's store is to be sealed."""
    with FakeAws() as aws:
        made = FakeKms(aws)
        made.make_key(ALIAS)
        machine.environment |= aws.environment | {"CRIKPY_STORE_KMS_KEY": ALIAS}
        yield made


def finding(ended: Ended, name: str) -> dict[str, str]:
    """Return what a check says of one thing."""
    found: list[dict[str, str]] = json.loads(ended.out)["findings"]
    return next(each for each in found if each["name"] == name)


def test_a_job_is_saved_and_resumed_by_two_processes_that_each_have_the_key_unwrapped(
    machine: Machine, kms: FakeKms
) -> None:
    first = machine.start("ending", 7)
    assert first.terminate().status == names.EXIT_CHECKPOINTED
    (made,) = [asked for asked in kms.asked(MAKE) if asked.context["crikpy-workload"].endswith(f"/{NAME}")]
    assert made.context["crikpy-store"] == f"file://{machine.store}"
    second = machine.run("false")
    second.hear("the job goes on")
    assert second.finish().status == 7
    unwrapped = [asked for asked in kms.asked(UNWRAP) if asked.context["crikpy-workload"].endswith(f"/{NAME}")]
    assert len(unwrapped) == 1
    without = machine.crikpy("verify", NAME, "--store", machine.store, changes={"CRIKPY_STORE_KMS_KEY": ""})
    without.require(FormatVersionError, "is sealed")


def test_a_job_runs_on_when_it_cannot_be_saved_for_want_of_the_kms_key(machine: Machine, kms: FakeKms) -> None:
    run = machine.start("ending", 7)
    kms.refuse("AccessDeniedException", MAKE)
    ended = machine.crikpy("checkpoint", NAME)
    ended.require(StoreForbiddenError, "AccessDeniedException", ALIAS)
    assert "kms:GenerateDataKey" in ended.err
    run.prove()
    kms.permit()
    assert run.terminate().status == names.EXIT_CHECKPOINTED


def test_check_says_that_the_key_works(machine: Machine, kms: FakeKms) -> None:
    machine.start("ending", 0).finish()  # makes the store
    store = finding(machine.of_store("check", "--output=json"), "store")
    assert store["verdict"] == "ok"
    assert ALIAS in store["fact"]


def test_check_says_why_the_key_does_not_work(machine: Machine, kms: FakeKms) -> None:
    machine.start("ending", 0).finish()
    kms.refuse("AccessDeniedException", UNWRAP)
    ended = machine.of_store("check", "--output=json")
    assert ended.status == NodeError.exit_code
    store = finding(ended, "store")
    assert store["verdict"] == "failed"
    assert "AccessDeniedException" in store["fact"]
    assert "kms:Decrypt" in store["remedy"]


def test_check_says_what_it_did_not_try_for_want_of_a_store(machine: Machine, kms: FakeKms) -> None:
    store = finding(machine.crikpy("check", "--output=json"), "store")
    assert (store["verdict"], store["remedy"]) == ("warning", "give --store")


def test_two_ways_to_have_keys_are_refused(machine: Machine, kms: FakeKms) -> None:
    ended = machine.crikpy("list", "--store", machine.store, changes={"CRIKPY_STORE_KEY_FILE": "/keys"})
    ended.require(SettingsError, "CRIKPY_STORE_KEY_FILE", "CRIKPY_STORE_KMS_KEY")
