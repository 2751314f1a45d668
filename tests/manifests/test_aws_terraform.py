"""Terraform's module of hack/aws and the templates cannot drift apart: they make and permit the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.manifests.aws_templates import FOLDER, NAMES, TERRAFORM, Json, statements, template, terraform

SAME = {
    "aws_s3_bucket": "AWS::S3::Bucket",
    "aws_s3_bucket_policy": "AWS::S3::BucketPolicy",
    "aws_kms_key": "AWS::KMS::Key",
    "aws_kms_alias": "AWS::KMS::Alias",
    "aws_iam_policy": "AWS::IAM::ManagedPolicy",
    "aws_iam_role": "AWS::IAM::Role",
    "aws_eks_pod_identity_association": "AWS::EKS::PodIdentityAssociation",
    "aws_sqs_queue": "AWS::SQS::Queue",
    "aws_sqs_queue_policy": "AWS::SQS::QueuePolicy",
    "aws_cloudwatch_event_rule": "AWS::Events::Rule",
    "aws_autoscaling_lifecycle_hook": "AWS::AutoScaling::LifecycleHook",
    "aws_iam_instance_profile": "AWS::IAM::InstanceProfile",
    "aws_launch_template": "AWS::EC2::LaunchTemplate",
    "aws_fis_experiment_template": "AWS::FIS::ExperimentTemplate",
}
PARTS = {
    "aws_s3_bucket_public_access_block": "PublicAccessBlockConfiguration",
    "aws_s3_bucket_ownership_controls": "OwnershipControls",
    "aws_s3_bucket_server_side_encryption_configuration": "BucketEncryption",
    "aws_s3_bucket_versioning": "VersioningConfiguration",
    "aws_s3_bucket_lifecycle_configuration": "LifecycleConfiguration",
}
"""Properties of a bucket for CloudFormation, and resources of their own for Terraform."""

JOINING = {"aws_cloudwatch_event_target", "aws_iam_role_policy", "aws_iam_role_policy_attachment"}
"""What for CloudFormation is said in the properties of a rule or a role."""


def resources() -> dict[str, list[Json]]:
    """Return Terraform's resources by their types."""
    found: dict[str, list[Json]] = {}
    for block in terraform()["resource"]:
        ((kind, named),) = block.items()
        found.setdefault(kind, []).extend(named.values())
    return found


def in_templates() -> Iterator[Json]:
    for name in NAMES:
        yield from template(name)["Resources"].values()


def kind_of(name: str) -> Json:
    """Return the properties of the one resource of a type in all templates."""
    (found,) = [one["Properties"] for one in in_templates() if one["Type"] == name]
    properties: Json = found
    return properties


def documents() -> list[Json]:
    """Return the statements of Terraform's policies, dynamic ones included."""
    found: list[Json] = []
    for block in terraform()["data"]:
        for document in block.get("aws_iam_policy_document", {}).values():
            found += document.get("statement", [])
            found += [part for one in document.get("dynamic", []) for part in one["statement"]["content"]]
    return found


def test_both_make_the_same_kinds_of_things() -> None:
    ours = resources().keys() - JOINING - PARTS.keys()
    assert {SAME[kind] for kind in ours} == {one["Type"] for one in in_templates()}
    assert resources().keys() >= JOINING
    bucket = kind_of("AWS::S3::Bucket")
    assert {PARTS[kind] for kind in resources().keys() & PARTS.keys()} == bucket.keys() - {"BucketName"}


def meaning(statement: Json) -> tuple[object, ...]:
    """Return what a statement of CloudFormation permits, without names of resources."""
    named = statement["Action"]
    conditions = [
        (test, variable, _values(values))
        for test, asked in statement.get("Condition", {}).items()
        for variable, values in asked.items()
    ]
    return statement["Effect"], frozenset([named] if isinstance(named, str) else named), frozenset(conditions)


def meaning_here(statement: Json) -> tuple[object, ...]:
    """Return the same of one of Terraform's."""
    conditions = [(one["test"], one["variable"], _values(one["values"])) for one in statement.get("condition", [])]
    return statement.get("effect", "Allow"), frozenset(statement["actions"]), frozenset(conditions)


def _values(values: Any) -> object:
    """Return fixed values, and of others only that they depend on something."""
    listed = values if isinstance(values, list) else [values]
    if any(isinstance(one, dict) or "${" in str(one) for one in listed):
        return "depends"
    return tuple(sorted(str(one).lower() for one in listed))


def test_both_permit_and_deny_the_same() -> None:
    theirs = {one["Sid"]: meaning(one) for name in NAMES for one in statements(template(name)) if "Sid" in one}
    theirs.pop("AsPoliciesOfTheAccountSay")  # Terraform's key has it without being told
    ours = {one["sid"]: meaning_here(one) for one in documents() if "sid" in one}
    ours["NobodyWithoutTls"] = theirs["NobodyWithoutTls"] = ("of the bucket and the queue: below",)
    assert ours == theirs


def test_both_deny_what_comes_without_tls_to_bucket_and_queue() -> None:
    theirs = [one for name in NAMES for one in statements(template(name)) if one.get("Sid") == "NobodyWithoutTls"]
    ours = [one for one in documents() if one.get("sid") == "NobodyWithoutTls"]
    assert {meaning(one) for one in theirs} == {meaning_here(one) for one in ours}
    assert len(theirs) == len(ours) == 2


def test_both_trust_the_same() -> None:
    ours = {action for one in documents() if "sid" not in one for action in one["actions"]}
    theirs = set()
    for name in NAMES:
        theirs |= set(re.findall(r"sts:\w+", (FOLDER / f"{name}.yaml").read_text()))
    assert ours == theirs
    services = {who for one in documents() for by in one.get("principals", []) for who in by["identifiers"]}
    for name in NAMES:
        for service in re.findall(r"Service: ([\w.]+)", (FOLDER / f"{name}.yaml").read_text()):
            assert service in services
    text = (TERRAFORM / "roles.tf").read_text()
    asked = re.findall(r'"aws:RequestTag/([\w-]+)"', text)
    assert set(asked) == set(re.findall(r'"aws:RequestTag/([\w-]+)"', (FOLDER / "roles.yaml").read_text()))


def test_both_choose_the_same_events() -> None:
    rules = [one for one in in_templates() if one["Type"] == "AWS::Events::Rule"]
    (here,) = [block["rules"] for block in terraform()["locals"] if "rules" in block]
    theirs = {json.dumps(rule["Properties"]["EventPattern"], sort_keys=True) for rule in rules}
    assert {json.dumps(pattern, sort_keys=True) for pattern in here.values()} == theirs


def test_both_keep_the_queue_and_the_hook_alike() -> None:
    (queue,) = resources()["aws_sqs_queue"]
    assert queue["message_retention_seconds"] == kind_of("AWS::SQS::Queue")["MessageRetentionPeriod"]
    (hook,) = resources()["aws_autoscaling_lifecycle_hook"]
    theirs = kind_of("AWS::AutoScaling::LifecycleHook")
    names = ("LifecycleTransition", "HeartbeatTimeout", "DefaultResult")
    asked = ("lifecycle_transition", "heartbeat_timeout", "default_result")
    assert [hook[name] for name in asked] == [theirs[name] for name in names]
    assert hook["name"] == theirs["LifecycleHookName"]


def test_both_give_machines_the_same_script_and_image() -> None:
    (script,) = kind_of("AWS::EC2::LaunchTemplate")["LaunchTemplateData"]["UserData"]["Fn::Base64"].values()
    ours = (TERRAFORM / "user-data.sh").read_text()
    for here, there in (
        ("version", "Version"),
        ("region", "AWS::Region"),
        ("job_name", "JobName"),
        ("store", "Store"),
        ("command", "Command"),
    ):
        ours = ours.replace(f"${{{here}}}", f"${{{there}}}")
    assert ours == script
    given = template("machines")["Parameters"]
    text = (TERRAFORM / "variables.tf").read_text()
    for name in ("ImageId", "InstanceType", "Version"):
        assert f'"{given[name]["Default"]}")' in text


def test_both_interrupt_the_same_instances() -> None:
    theirs, (ours,) = kind_of("AWS::FIS::ExperimentTemplate"), resources()["aws_fis_experiment_template"]
    (name, target), (here,) = next(iter(theirs["Targets"].items())), ours["target"]
    assert (here["name"], here["resource_type"]) == (name, target["ResourceType"])
    assert here["selection_mode"] == target["SelectionMode"]
    assert {tag["key"]: tag["value"] for tag in here["resource_tag"]} == target["ResourceTags"]
    (action,) = theirs["Actions"].values()
    (act,) = ours["action"]
    assert act["action_id"] == action["ActionId"]
    assert {one["key"]: one["value"] for one in act["parameter"]} == action["Parameters"]
    assert {one["key"]: one["value"] for one in act["target"]} == action["Targets"]
