"""The definitions of hack/aws for tests: read as they stand, and deployed to a fake AWS."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import hcl2
import yaml

from tests.fakes.aws import FakeAws
from tests.fakes.cloudformation import teach_moto

Json = dict[str, Any]
FOLDER = Path(__file__).parents[2] / "hack" / "aws"
TERRAFORM = FOLDER / "terraform"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


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


@functools.cache
def template(name: str) -> Json:
    """Return a template."""
    loader = _Loader((FOLDER / f"{name}.yaml").read_text())
    try:
        found: Json = loader.get_single_data()
    finally:
        loader.dispose()
    return found


def statements(document: Any) -> Iterator[Json]:
    """Yield the statements of all policies in a part of a template, whatever they depend on."""
    if isinstance(document, dict):
        if "Effect" in document:
            yield document
        for inner in document.values():
            yield from statements(inner)
    elif isinstance(document, list):
        for inner in document:
            yield from statements(inner)
    elif isinstance(document, str) and '"Statement"' in document:
        yield from statements(json.loads(document))


@functools.cache
def terraform() -> Json:
    """Return Terraform's module: for each kind of block, all of them."""
    whole: Json = {}
    for path in sorted(TERRAFORM.glob("*.tf")):
        with path.open() as file:
            for kind, blocks in _bare(hcl2.load(file)).items():
                whole.setdefault(kind, []).extend(blocks)
    return whole


def _bare(value: Any) -> Any:
    """Return what was read without quotes, comments and marks of the parser."""
    if isinstance(value, dict):
        return {_bare(name): _bare(inner) for name, inner in value.items() if not name.startswith("__")}
    if isinstance(value, list):
        return [_bare(inner) for inner in value]
    return value[1:-1] if isinstance(value, str) and value[:1] == value[-1:] == '"' else value


class Stacks:
    """Deploys templates to a fake AWS, and sees what came of it."""

    def __init__(self, aws: FakeAws) -> None:
        teach_moto()
        self._aws = aws

    def deploy(self, name: str, **parameters: str) -> dict[str, str]:
        """Make a stack of a template; return its outputs."""
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        with closing(self._aws.client("cloudformation")) as client:
            client.create_stack(
                StackName=name,
                TemplateBody=(FOLDER / f"{name}.yaml").read_text(),
                Capabilities=["CAPABILITY_IAM"],
                Parameters=given,
            )
            (stack,) = client.describe_stacks(StackName=name)["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE"
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    def delete(self, name: str) -> None:
        """Remove a stack."""
        with closing(self._aws.client("cloudformation")) as client:
            client.delete_stack(StackName=name)

    def policy(self, arn: str) -> Json:
        """Return the document of a managed policy."""
        with closing(self._aws.client("iam")) as client:
            version = client.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            found = client.get_policy_version(PolicyArn=arn, VersionId=version)
        document: Json = found["PolicyVersion"]["Document"]
        return document

    def trust(self, arn: str) -> Json:
        """Return who may take on a role."""
        with closing(self._aws.client("iam")) as client:
            role = client.get_role(RoleName=arn.rpartition("/")[2])["Role"]
        document: Json = role["AssumeRolePolicyDocument"]
        return document

    def actions(self, arn: str) -> set[str]:
        """Return all that a role may do."""
        name, found = arn.rpartition("/")[2], set()
        with closing(self._aws.client("iam")) as client:
            attached = client.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
            documents = [self.policy(each["PolicyArn"]) for each in attached]
            inline = client.list_role_policies(RoleName=name)["PolicyNames"]
            documents += [
                client.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in inline
            ]
        for statement in statements(documents):
            assert statement["Effect"] == "Allow"
            found |= actions_of(statement)
        return found


def actions_of(statement: Json) -> set[str]:
    """Return the actions of a statement, one or several."""
    named = statement["Action"]
    return {named} if isinstance(named, str) else set(named)
