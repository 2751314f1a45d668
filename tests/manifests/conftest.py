"""A fake AWS for the definitions of hack/aws, emptied before each test."""

from __future__ import annotations

import pytest

from tests.ec2.conftest import aws, aws_server
from tests.fakes.aws import FakeAws
from tests.manifests.aws_templates import Stacks

__all__ = ["aws", "aws_server", "stacks"]


@pytest.fixture
def stacks(aws: FakeAws) -> Stacks:
    return Stacks(aws)
