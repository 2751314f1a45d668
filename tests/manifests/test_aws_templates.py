"""The definitions for AWS: their rules choose the events that are understood, and both say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from crikpy.ec2.messages import Kind, parse_message
from crikpy.store.keyring import context_of
from tests.ec2.test_messages import FIXTURES, SEEN

FOLDER = Path(__file__).parents[2] / "hack" / "aws"


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's own tags as what they are of."""


def _tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {tag: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {tag: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {tag: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _tagged)


def template() -> dict[str, Any]:
    loader = _Loader((FOLDER / "interruptions.yaml").read_text())
    try:
        found: dict[str, Any] = loader.get_single_data()
    finally:
        loader.dispose()
    return found


def terraform() -> str:
    return (FOLDER / "interruptions.tf").read_text()


def patterns() -> list[dict[str, Any]]:
    """Return the event patterns of all rules."""
    rules = [one for one in template()["Resources"].values() if one["Type"] == "AWS::Events::Rule"]
    return [rule["Properties"]["EventPattern"] for rule in rules]


def chooses(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    """Say whether EventBridge would choose an event (Amazon EventBridge User Guide, "Event patterns")."""
    return all(
        chooses(wanted, event.get(field, {})) if isinstance(wanted, dict) else event.get(field) in wanted
        for field, wanted in pattern.items()
    )


EVENTS = [
    path
    for path in sorted(FIXTURES.glob("*.json"))
    if "detail-type" in path.read_text() and not path.stem.startswith("wrong") and not path.stem.endswith("-sns")
]


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_the_rules_choose_exactly_the_events_that_tell_something(path: Path) -> None:
    event = json.loads(path.read_text())
    tells = parse_message(path.read_text(), seen=SEEN).kind is Kind.NEWS
    assert sum(chooses(pattern, event) for pattern in patterns()) == (1 if tells else 0)


def test_every_rule_fills_the_queue() -> None:
    resources = template()["Resources"]
    rules = [one for one in resources.values() if one["Type"] == "AWS::Events::Rule"]
    assert len(rules) == 6
    assert all(rule["Properties"]["Targets"][0]["Arn"] == {"GetAtt": "Queue.Arn"} for rule in rules)


def test_both_definitions_choose_the_same_events() -> None:
    in_yaml = {kind for pattern in patterns() for kind in pattern["detail-type"]}
    assert set(re.findall(r'detail-type = \["([^"]+)"\]', terraform())) == in_yaml
    for pattern in patterns():
        for values in pattern.get("detail", {}).values():
            assert "[" + ", ".join(f'"{value}"' for value in values) + "]" in terraform()


def test_both_definitions_permit_the_same_and_no_more() -> None:
    statements = template()["Resources"]["ControllerPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    actions = {action for statement in statements for action in statement["Action"]}
    assert actions == {
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:ChangeMessageVisibility",
        "sqs:GetQueueAttributes",
        "autoscaling:CompleteLifecycleAction",
        "autoscaling:RecordLifecycleActionHeartbeat",
    }
    named = set(re.findall(r'"((?:sqs|autoscaling):[A-Za-z]+)"', terraform()))
    assert named - {"sqs:SendMessage"} == actions
    assert "*" not in {str(statement["Resource"]) for statement in statements}


def test_who_seals_with_kms_may_do_two_things_with_one_key_for_one_store() -> None:
    (statement,) = json.loads((FOLDER / "kms-policy.json").read_text())["Statement"]
    assert statement["Action"] == ["kms:GenerateDataKey", "kms:Decrypt"]
    assert re.fullmatch(r"arn:aws:kms:[^*]+:key/[^*]+", statement["Resource"])
    context = context_of("s3://my-bucket/crikpy", "c/n/w")
    condition = statement["Condition"]
    asked = {"kms:EncryptionContext:crikpy-store": context["crikpy-store"]}
    assert condition["StringEquals"] == asked
    assert set(condition["ForAllValues:StringEquals"]["kms:EncryptionContextKeys"]) == context.keys()


def test_the_poll_may_ask_and_nothing_else() -> None:
    (statement,) = json.loads((FOLDER / "poll-policy.json").read_text())["Statement"]
    assert statement["Action"] == ["ec2:DescribeSpotInstanceRequests", "ec2:DescribeInstanceStatus"]
