"""The quickstarts for EKS, word for word: AWS is moto, by the real `aws`; docker, kubectl and helm are stand-ins.

tests/manifests has what the chart and the kustomizations make, tests/e2e what becomes of a job on a real cluster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.aws import REGION, FakeAws
from tests.fakes.cloudformation import teach_moto
from tests.quickstarts.substitutes import INSTANCE

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "ami-12c6146b"  # one that moto knows


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody with an account at AWS, a cluster, and the programs of the pages."""

    aws: FakeAws
    folder: Path
    instance: str

    def follow(self, page: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | self.aws.environment | {INSTANCE: self.instance}
        environment["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{environment['PATH']}"
        values = ("--set", "CLUSTER=production", "--set", "BUCKET=jobs", "--set", f"AWS_DEFAULT_REGION={REGION}")
        command = [str(ROOT / "hack/quickstart"), *values, str(ROOT / f"docs/{page}.md")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)

    def called(self, *words: str) -> list[list[str]]:
        """Return the calls that begin with words."""
        calls = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        return [call for call in calls if call[: len(words)] == list(words)]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the pages' programs."""
    folder = tmp_path_factory.mktemp("programs")
    command = [sys.executable, "-m", "tests.quickstarts.substitutes", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            assert served.stdout.readline() == "ready\n"
            yield folder
        finally:
            served.terminate()


@pytest.fixture
def reader(programs: Path) -> Iterator[Reader]:
    teach_moto()
    for kept in ("calls", "there"):
        (programs / kept).unlink(missing_ok=True)
    with FakeAws() as aws, closing(aws.client("ec2")) as ec2:
        made = ec2.run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
        yield Reader(aws, programs, made)


@pytest.mark.parametrize("page", ("karpenter", "managed-nodes"))
def test_a_reader_gets_from_nothing_to_an_interruption_and_back_to_nothing(reader: Reader, page: str) -> None:
    done = reader.follow(f"quickstart-{page}")
    assert done.returncode == 0, done.stdout + done.stderr
    if page == "karpenter":
        assert_knows_what_the_stacks_told(*reader.called("helm", "upgrade"))
    (experiment,) = reader.called("aws", "fis", "start-experiment")
    assert experiment[4] not in ("", "None")
    with closing(reader.aws.client("ec2")) as ec2:
        (tag,) = ec2.describe_tags()["Tags"]
    assert (tag["Key"], tag["Value"]) == ("crikpy-trial", "interrupt")
    with closing(reader.aws.client("cloudformation")) as stacks:
        assert stacks.describe_stacks()["Stacks"] == []
    with closing(reader.aws.client("s3")) as s3:
        assert s3.list_buckets()["Buckets"] == []
    with closing(reader.aws.client("ecr")) as ecr:
        assert ecr.describe_repositories()["repositories"] == []


def assert_knows_what_the_stacks_told(installed: list[str]) -> None:
    values = dict(word.split("=", 1) for word in installed if "=" in word)
    assert values["store.url"] == "s3://jobs/crikpy"
    assert values["notices.queueUrl"].endswith("/production-crikpy-interruptions")
    assert values["image.registry"] == f"123456789012.dkr.ecr.{REGION}.amazonaws.com/crikpy"
