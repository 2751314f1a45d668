"""CloudFormation for tests: moto's, with the kinds and properties of hack/aws's templates that moto passes over.

Whatever a template makes stands in moto's own services afterwards, and is asked of them. Of EKS's associations,
which moto has none of, only this module keeps record. Usable without pytest.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from moto.autoscaling.models import autoscaling_backends
from moto.cloudformation import parsing
from moto.cloudformation.models import CloudFormationBackend
from moto.core.common_models import CloudFormationModel
from moto.fis.models import fis_backends
from moto.iam.access_control import PermissionResult
from moto.iam.models import Role, iam_backends
from moto.s3.models import FakeBucket, s3_backends
from moto.sqs.models import sqs_backends

Json = dict[str, Any]
DEBIAN = "ami-0123456789abcdef0"
"""The AMI of every release of Debian."""


class _Kind(CloudFormationModel):
    """A kind of resources that moto makes none of; what is made of one keeps its properties."""

    kind: ClassVar[str] = ""

    def __init__(self, name: str, properties: Json) -> None:
        self.physical_resource_id = name
        self.properties = properties

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def cloudformation_type(cls) -> str:
        return cls.kind

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return False

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str, **_: Any
    ) -> _Kind:
        made = cls(resource_name, cloudformation_json["Properties"])
        made.make(account_id, region_name)
        return made

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str
    ) -> None:
        """Leave it to what it belongs to."""

    def make(self, account: str, region: str) -> None:
        """Have the service know of it."""


class _BucketPolicy(_Kind):
    kind = "AWS::S3::BucketPolicy"

    def make(self, account: str, region: str) -> None:
        document = json.dumps(self.properties["PolicyDocument"]).encode()
        s3_backends[account]["aws"].put_bucket_policy(self.properties["Bucket"], document)


class _QueuePolicy(_Kind):
    kind = "AWS::SQS::QueuePolicy"

    def make(self, account: str, region: str) -> None:
        for url in self.properties["Queues"]:
            policy = {"Policy": json.dumps(self.properties["PolicyDocument"])}
            sqs_backends[account][region].set_queue_attributes(url.rpartition("/")[2], policy)


class _LifecycleHook(_Kind):
    kind = "AWS::AutoScaling::LifecycleHook"

    def make(self, account: str, region: str) -> None:
        names = ("LifecycleHookName", "AutoScalingGroupName", "LifecycleTransition")
        wanted = [self.properties[name] for name in (*names, "HeartbeatTimeout", "DefaultResult")]
        autoscaling_backends[account][region].create_lifecycle_hook(*wanted)


class _Experiment(_Kind):
    kind = "AWS::FIS::ExperimentTemplate"

    def make(self, account: str, region: str) -> None:
        given = {_snake(name): value for name, value in self.properties.items()}
        for inner in ("stop_conditions", "targets", "actions"):
            given[inner] = _lowered(given[inner])
        made = fis_backends[account][region].create_experiment_template(client_token=None, **given)
        self.physical_resource_id = made["id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """Which role the pods of a service account get by EKS Pod Identity."""

    cluster: str
    namespace: str
    account: str
    role: str


associations: set[Association] = set()
"""What templates have associated so far, in all accounts of this process; whoever looks clears it before."""


class _PodIdentityAssociation(_Kind):
    kind = "AWS::EKS::PodIdentityAssociation"

    def make(self, account: str, region: str) -> None:
        known = ("ClusterName", "Namespace", "ServiceAccount", "RoleArn")
        cluster, namespace, service_account, role = (self.properties[name] for name in known)
        associations.add(Association(cluster=cluster, namespace=namespace, account=service_account, role=role))


def teach_moto() -> None:
    """Teach moto's CloudFormation what it lacks; once for a process is enough."""
    if getattr(parsing, "crikpy_taught", False):
        return
    _put(parsing, "crikpy_taught", True)
    parsing.get_model_map().update({kind.kind: kind for kind in _Kind.__subclasses__()})
    _drop_what_is_no_value()
    _know_the_images_of_debian()
    _ask_bucket_policies_for_nothing_conditional()
    _configure_buckets()
    _attach_policies()
    _tell_outputs()


def _drop_what_is_no_value() -> None:
    """Have AWS::NoValue leave no gap in lists."""
    clean = parsing.clean_json

    def cleaned(resource: Any, resources: Any) -> Any:
        found = clean(resource, resources)
        return [each for each in found if each is not None] if isinstance(found, list) else found

    _put(parsing, "clean_json", cleaned)


def _know_the_images_of_debian() -> None:
    find = parsing.ResourceMap.parse_ssm_parameter

    def found(resources: parsing.ResourceMap, value: str, value_type: str) -> str:
        return DEBIAN if value.startswith("/aws/service/debian/") else find(resources, value, value_type)

    _put(parsing.ResourceMap, "parse_ssm_parameter", found)


def _ask_bucket_policies_for_nothing_conditional() -> None:
    """moto heeds no conditions: where what comes without TLS is denied it would deny everything."""
    _put(FakeBucket, "get_permission", lambda *_: PermissionResult.NEUTRAL)


def _configure_buckets() -> None:
    make = FakeBucket.create_from_cloudformation_json

    def made(
        resource_name: str, cloudformation_json: Json, account_id: str, region_name: str, **more: Any
    ) -> FakeBucket:
        bucket = make(resource_name, cloudformation_json, account_id, region_name, **more)
        wanted, s3 = cloudformation_json["Properties"], s3_backends[account_id]["aws"]
        if "VersioningConfiguration" in wanted:
            s3.put_bucket_versioning(bucket.name, wanted["VersioningConfiguration"]["Status"])
        if "PublicAccessBlockConfiguration" in wanted:
            blocked = wanted["PublicAccessBlockConfiguration"]
            s3.put_public_access_block(bucket.name, blocked)
        if "LifecycleConfiguration" in wanted:
            s3.put_bucket_lifecycle(bucket.name, [_rule(one) for one in wanted["LifecycleConfiguration"]["Rules"]])
        if "OwnershipControls" in wanted:
            s3.put_bucket_ownership_controls(
                bucket.name, wanted["OwnershipControls"]["Rules"][0]["ObjectOwnership"]
            )
        return bucket

    _put(FakeBucket, "create_from_cloudformation_json", made)


def _attach_policies() -> None:
    """Have roles bear managed policies, and lose them before they go."""
    make = Role.create_from_cloudformation_json

    def made(
        resource_name: str, cloudformation_json: Json, account_id: str, region_name: str, **more: Any
    ) -> Role:
        role = make(resource_name, cloudformation_json, account_id, region_name, **more)
        wanted = cloudformation_json["Properties"]
        for arn in wanted.get("ManagedPolicyArns", []):
            iam_backends[account_id]["aws"].attach_role_policy(arn, role.name)
        for inline in wanted.get("Policies", []):
            role.put_policy(inline["PolicyName"], json.dumps(inline["PolicyDocument"]))
        return role

    remove = Role.delete_from_cloudformation_json

    def removed(resource_name: str, cloudformation_json: Json, account_id: str, region_name: str) -> None:
        for role in iam_backends[account_id]["aws"].roles.values():
            if role.name == resource_name:
                role.managed_policies.clear()
        remove(resource_name, cloudformation_json, account_id, region_name)

    _put(Role, "create_from_cloudformation_json", made)
    _put(Role, "delete_from_cloudformation_json", removed)


def _rule(rule: Json) -> Json:
    """Return a lifecycle rule as S3's own API has it."""
    named = {("ID" if name == "Id" else name): value for name, value in rule.items()}
    if "ExpiredObjectDeleteMarker" in named:
        named["Expiration"] = {"ExpiredObjectDeleteMarker": str(named.pop("ExpiredObjectDeleteMarker")).lower()}
    return {"Filter": {"Prefix": ""}, **named}


def _tell_outputs() -> None:
    """Have a stack that a change set has made know its outputs, as one does that was made at once."""
    execute = CloudFormationBackend.execute_change_set

    def executed(backend: CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
        execute(backend, change_set_name, stack_name)
        for stack in backend.stacks.values():
            if stack.template and not stack.outputs:
                stack._parse_template()
                stack.output_map = stack._create_output_map()

    _put(CloudFormationBackend, "execute_change_set", executed)


def _put(owner: object, name: str, taught: object) -> None:
    setattr(owner, name, taught)


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _lowered(value: Any) -> Any:
    """Return CloudFormation's own names as FIS has them."""
    if isinstance(value, dict):
        return {_first_lowered(name): _lowered(inner) for name, inner in value.items()}
    return [_lowered(one) for one in value] if isinstance(value, list) else value


def _first_lowered(name: str) -> str:
    return name if name == "SpotInstances" else name[0].lower() + name[1:]
