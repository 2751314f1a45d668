"""The templates of hack/aws: CloudFormation takes them, and what they make is what they promise."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crikpy.ec2.messages import Kind, parse_message
from crikpy.store.keyring import context_of
from tests.ec2.test_messages import FIXTURES, SEEN
from tests.fakes import cloudformation
from tests.fakes.aws import FakeAws
from tests.manifests.aws_templates import FOLDER, NAMES, Stacks, statements, template

CLUSTER = "production"
ISSUER = "oidc.eks.eu-west-1.amazonaws.com/id/0123456789ABCDEF"


def test_cloudformation_would_take_every_template() -> None:
    words = [str(Path(sys.executable).with_name("cfn-lint")), *(str(FOLDER / f"{name}.yaml") for name in NAMES)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- the bucket ------------------------------------------------------------------------


def test_the_bucket_is_private_encrypted_and_keeps_no_rubbish(stacks: Stacks, aws: FakeAws) -> None:
    assert stacks.deploy("store", BucketName="jobs")["Store"] == "s3://jobs/crikpy"
    with closing(aws.client("s3")) as s3:
        blocked = s3.get_public_access_block(Bucket="jobs")["PublicAccessBlockConfiguration"]
        (owner,) = s3.get_bucket_ownership_controls(Bucket="jobs")["OwnershipControls"]["Rules"]
        (sealed,) = s3.get_bucket_encryption(Bucket="jobs")["ServerSideEncryptionConfiguration"]["Rules"]
        versions = s3.get_bucket_versioning(Bucket="jobs")["Status"]
        rules = {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket="jobs")["Rules"]}
        (denied,) = json.loads(s3.get_bucket_policy(Bucket="jobs")["Policy"])["Statement"]
    assert len(blocked) == 4
    assert all(blocked.values())
    assert owner == {"ObjectOwnership": "BucketOwnerEnforced"}
    assert sealed["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert versions == "Enabled"
    assert rules["unfinished-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert rules["old-versions"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 3}
    assert (denied["Effect"], denied["Principal"], denied["Action"]) == ("Deny", "*", "s3:*")


def test_no_rule_of_the_bucket_removes_what_a_checkpoint_may_still_need(stacks: Stacks, aws: FakeAws) -> None:
    stacks.deploy("store", BucketName="jobs")
    with closing(aws.client("s3")) as s3:
        rules = s3.get_bucket_lifecycle_configuration(Bucket="jobs")["Rules"]
    assert all(set(rule.get("Expiration", {})) <= {"ExpiredObjectDeleteMarker"} for rule in rules)


def test_a_bucket_without_versions_never_had_any(stacks: Stacks, aws: FakeAws) -> None:
    stacks.deploy("store", BucketName="jobs", KeepVersionsDays="0")
    with closing(aws.client("s3")) as s3:
        assert "Status" not in s3.get_bucket_versioning(Bucket="jobs")
        (rule,) = s3.get_bucket_lifecycle_configuration(Bucket="jobs")["Rules"]
    assert rule["ID"] == "unfinished-uploads"


def test_a_bucket_can_be_encrypted_with_a_key_of_yours(stacks: Stacks, aws: FakeAws) -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    made = stacks.deploy("store", BucketName="jobs", EncryptionKeyArn=key)
    with closing(aws.client("s3")) as s3:
        (sealed,) = s3.get_bucket_encryption(Bucket="jobs")["ServerSideEncryptionConfiguration"]["Rules"]
    assert sealed["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    (use,) = [one for one in statements(stacks.policy(made["StorePolicyArn"])) if one["Resource"] == key]
    assert use["Condition"] == {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}


def test_the_policies_to_be_given_by_hand_say_what_the_bucket_s_template_says(stacks: Stacks) -> None:
    made = stacks.deploy("store", BucketName="my-bucket", Sealing="true")
    told = json.dumps(stacks.policy(made["StorePolicyArn"])["Statement"])
    told = told.replace(made["SealingKeyArn"], by_hand("kms-policy")["Statement"][0]["Resource"])
    assert json.loads(told) == by_hand("store-policy")["Statement"] + by_hand("kms-policy")["Statement"]


def test_who_seals_with_kms_may_do_two_things_with_one_key_for_one_store() -> None:
    (statement,) = by_hand("kms-policy")["Statement"]
    assert statement["Action"] == ["kms:GenerateDataKey", "kms:Decrypt"]
    assert re.fullmatch(r"arn:aws:kms:[^*]+:key/[^*]+", statement["Resource"])
    context = context_of("s3://my-bucket/crikpy", "c/n/w")
    condition = statement["Condition"]
    asked = {"kms:EncryptionContext:crikpy-store": context["crikpy-store"]}
    assert condition["StringEquals"] == asked
    assert set(condition["ForAllValues:StringEquals"]["kms:EncryptionContextKeys"]) == context.keys()


def by_hand(name: str) -> Any:
    """Return a policy that stands in a file of its own."""
    return json.loads((FOLDER / f"{name}.json").read_text())


# ---- the roles -------------------------------------------------------------------------


def test_pod_identity_gives_each_role_to_one_service_account_of_one_cluster(stacks: Stacks) -> None:
    cloudformation.associations.clear()
    roles = deploy_roles(stacks)
    for part, account in (("AgentRoleArn", "crikpy-agent"), ("ControllerRoleArn", "crikpy-controller")):
        (statement,) = stacks.trust(roles[part])["Statement"]
        assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
        assert statement["Action"] == ["sts:AssumeRole", "sts:TagSession"]
        assert statement["Condition"]["StringEquals"] == {
            "aws:RequestTag/eks-cluster-name": CLUSTER,
            "aws:RequestTag/kubernetes-namespace": "crikpy-system",
            "aws:RequestTag/kubernetes-service-account": account,
        }
        made = cloudformation.Association(
            cluster=CLUSTER, namespace="crikpy-system", account=account, role=roles[part]
        )
        assert made in cloudformation.associations
    assert len(cloudformation.associations) == 2


def test_irsa_gives_each_role_to_one_service_account_of_one_issuer(stacks: Stacks) -> None:
    cloudformation.associations.clear()
    roles = deploy_roles(stacks, OidcProvider=ISSUER)
    for part, account in (("AgentRoleArn", "crikpy-agent"), ("ControllerRoleArn", "crikpy-controller")):
        (statement,) = stacks.trust(roles[part])["Statement"]
        assert statement["Principal"] == {"Federated": f"arn:aws:iam::123456789012:oidc-provider/{ISSUER}"}
        assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
        assert statement["Condition"]["StringEquals"] == {
            f"{ISSUER}:sub": f"system:serviceaccount:crikpy-system:{account}",
            f"{ISSUER}:aud": "sts.amazonaws.com",
        }
    assert not cloudformation.associations


def test_a_controller_without_queue_or_poll_gets_no_role(stacks: Stacks) -> None:
    made = stacks.deploy("store", BucketName="jobs")
    roles = stacks.deploy("roles", ClusterName=CLUSTER, StorePolicyArn=made["StorePolicyArn"])
    assert roles.keys() == {"AgentRoleArn"}


def deploy_roles(stacks: Stacks, **parameters: str) -> dict[str, str]:
    store = stacks.deploy("store", BucketName="jobs")
    queue = stacks.deploy("interruptions", ClusterName=CLUSTER)
    return stacks.deploy(
        "roles",
        ClusterName=CLUSTER,
        StorePolicyArn=store["StorePolicyArn"],
        ControllerPolicyArn=queue["ControllerPolicyArn"],
        **parameters,
    )


# ---- the queue -------------------------------------------------------------------------


def patterns() -> list[dict[str, Any]]:
    """Return the event patterns of all rules."""
    rules = [one for one in template("interruptions")["Resources"].values() if one["Type"] == "AWS::Events::Rule"]
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


def test_every_rule_fills_the_queue_and_nobody_else_may(stacks: Stacks, aws: FakeAws) -> None:
    made = stacks.deploy("interruptions", ClusterName=CLUSTER)
    with closing(aws.client("sqs")) as sqs:
        queue = sqs.get_queue_attributes(QueueUrl=made["QueueUrl"], AttributeNames=["All"])["Attributes"]
    with closing(aws.client("events")) as events:
        rules = events.list_rules()["Rules"]
        targets = [
            target["Arn"] for rule in rules for target in events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        ]
    assert targets == [queue["QueueArn"]] * 6
    sends, denied = json.loads(queue["Policy"])["Statement"]
    assert (sends["Principal"], sends["Action"]) == ({"Service": "events.amazonaws.com"}, "sqs:SendMessage")
    assert sends["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    assert (denied["Effect"], denied["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": False}})


def test_a_group_that_is_named_waits_for_its_pods(stacks: Stacks, aws: FakeAws) -> None:
    stacks.deploy("interruptions", ClusterName=CLUSTER, AutoScalingGroup="workers")
    with closing(aws.client("autoscaling")) as client:
        (hook,) = client.describe_lifecycle_hooks(AutoScalingGroupName="workers")["LifecycleHooks"]
    assert hook["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_TERMINATING"
    assert (hook["HeartbeatTimeout"], hook["DefaultResult"]) == (300, "CONTINUE")


# ---- machines, and a trial -------------------------------------------------------------


def test_machines_are_spot_ask_for_tokens_and_run_the_job_by_one_script(stacks: Stacks, aws: FakeAws) -> None:
    store = stacks.deploy("store", BucketName="jobs")
    made = stacks.deploy(
        "machines",
        Store=store["Store"],
        StorePolicyArn=store["StorePolicyArn"],
        JobName="train-7",
        Command="python3 /srv/train.py",
    )
    with closing(aws.client("ec2")) as ec2:
        (found,) = ec2.describe_launch_template_versions(LaunchTemplateName=made["LaunchTemplateName"])[
            "LaunchTemplateVersions"
        ]
    wanted = found["LaunchTemplateData"]
    assert wanted["ImageId"] == cloudformation.DEBIAN
    assert wanted["InstanceMarketOptions"]["MarketType"] == "spot"
    assert wanted["MetadataOptions"]["HttpTokens"] == "required"
    assert wanted["IamInstanceProfile"]["Arn"] == made["InstanceProfileArn"]
    script = base64.b64decode(wanted["UserData"]).decode()
    settings = "CRIKPY_STORE=s3://jobs/crikpy\nCRIKPY_STORE_REGION=eu-west-1\nJOB=python3 /srv/train.py\n"
    assert f"cat >'/etc/crikpy/train-7.env' <<'END'\n{settings}END\n" in script
    assert script.endswith("systemctl start 'crikpy-job@train-7'\n")
    assert "$" not in script
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_the_trial_interrupts_tagged_spot_instances_and_no_others(stacks: Stacks, aws: FakeAws) -> None:
    made = stacks.deploy("trial")
    with closing(aws.client("fis")) as fis:
        found = fis.get_experiment_template(id=made["ExperimentTemplateId"])["experimentTemplate"]
    (action,) = found["actions"].values()
    assert action["actionId"] == "aws:ec2:send-spot-instance-interruptions"
    (target,) = found["targets"].values()
    assert target["resourceType"] == "aws:ec2:spot-instance"
    assert target["resourceTags"] == {"crikpy-trial": "interrupt"}
    (sends,) = [one for one in statements(template("trial")) if one.get("Sid") == "InterruptTaggedOnes"]
    assert sends["Condition"] == {"StringEquals": {"aws:ResourceTag/crikpy-trial": "interrupt"}}
