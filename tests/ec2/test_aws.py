"""What boto3's errors mean, and what a queue's URL tells."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from botocore import exceptions as boto

from crikpy.aio.tasks import stop
from crikpy.ec2.aws import Aws, region_of, translate
from crikpy.errors import AwsError, AwsForbiddenError, AwsUnavailableError, SettingsError
from crikpy.settings import SourceSettings


def answered(code: str, status: int = 400) -> boto.ClientError:
    """Return an error that AWS answered with."""
    return boto.ClientError(
        {"Error": {"Code": code, "Message": "why"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "ReceiveMessage",
    )


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (answered("AccessDenied", 403), AwsForbiddenError),
        (answered("UnauthorizedOperation"), AwsForbiddenError),
        (answered("ExpiredToken"), AwsForbiddenError),
        (answered("InvalidClientTokenId", 403), AwsForbiddenError),
        (boto.NoCredentialsError(), AwsForbiddenError),
        (answered("RequestLimitExceeded", 503), AwsUnavailableError),
        (answered("ThrottlingException"), AwsUnavailableError),
        (answered("Whatever", 500), AwsUnavailableError),
        (boto.EndpointConnectionError(endpoint_url="https://sqs"), AwsUnavailableError),
        (boto.ReadTimeoutError(endpoint_url="https://sqs"), AwsUnavailableError),
        (answered("AWS.SimpleQueueService.NonExistentQueue"), AwsError),
        (answered("ValidationError"), AwsError),
        (boto.ParamValidationError(report="x"), AwsError),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_error_is_what_it_means(fault: Exception, meaning: type[AwsError]) -> None:
    assert type(translate(fault)) is meaning


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/interruptions", "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/interruptions", "cn-north-1"),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/interruptions", "eu-west-1"),
        ("https://queue.amazonaws.com/123456789012/interruptions", ""),
        ("http://127.0.0.1:4566/000000000000/interruptions", ""),
        ("", ""),
    ],
)
def test_a_queue_url_tells_its_region(url: str, region: str) -> None:
    assert region_of(url) == region


def test_what_is_no_queue_url_is_refused() -> None:
    with pytest.raises(SettingsError, match="CRIKPY_SOURCES_QUEUE_URL"):
        region_of("arn:aws:sqs:eu-west-1:123456789012:interruptions")


async def test_a_call_that_blocks_holds_up_neither_the_loop_nor_its_end() -> None:
    aws = Aws(SourceSettings(region="eu-west-1"))
    released = threading.Event()
    waiting = asyncio.create_task(aws.ask(lambda: released.wait(10)))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await stop(waiting)
    assert waiting.cancelled()
    assert time.monotonic() - began < 5
    released.set()
