"""What becomes of a save when KMS fails or refuses, and which KMS keys can be named.

Against moto's KMS over a real socket, by boto3, through stores as settings open them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore import exceptions as boto

from crikpy.aio.clock import Deadline
from crikpy.errors import (
    CrikpyError,
    SettingsError,
    StoreError,
    StoreForbiddenError,
    StoreUnavailableError,
)
from crikpy.model.workload import Workload
from crikpy.settings import StoreSettings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.kms import Kms, translate
from crikpy.store.layout import chunk_key
from crikpy.store.opening import open_store
from crikpy.store.records import Claim
from tests.fakes.kms import MAKE, UNWRAP, FakeKms
from tests.store.conftest import ALIAS, Opened

WORKLOAD = Workload(cluster="plain", namespace="default", name="train")
CHUNK = chunk_key(WORKLOAD, "ab" * 32)
KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:eu-west-1:123456789012:key/{KEY_ID}"


@pytest.mark.parametrize(("code", "status"), [("ThrottlingException", 400), ("KMSInternalException", 500)])
def test_what_passes_is_tried_again(opened: Opened, kms: FakeKms, code: str, status: int) -> None:
    kms.refuse(code, times=2, status=status)
    opened(request_timeout_s=20.0).put(CHUNK, b"bytes")
    kms.refuse(code, times=2, status=status)
    assert opened(request_timeout_s=20.0).get(CHUNK) == b"bytes"


def test_a_save_without_a_key_ends_in_time_before_anything_is_announced(
    opened: Opened, bare: ObjectStore, kms: FakeKms
) -> None:
    kms.refuse("ThrottlingException")
    with pytest.raises(StoreUnavailableError, match="ThrottlingException") as caught:
        Checkpoints(opened(request_timeout_s=300.0), WORKLOAD).begin(Claim.ours(), deadline=Deadline.after(1))
    assert caught.value.retryable
    assert list(bare.list("")) == []


def test_who_may_not_use_the_kms_key_is_told_what_he_lacks_at_once(opened: Opened, kms: FakeKms) -> None:
    kms.refuse("AccessDeniedException", MAKE)
    with pytest.raises(StoreForbiddenError) as caught:
        opened().put(CHUNK, b"bytes")
    assert not caught.value.retryable
    assert "kms:GenerateDataKey" in caught.value.remedy
    assert len(kms.asked(MAKE)) == 1
    kms.permit()
    opened().put(CHUNK, b"bytes")
    kms.refuse("AccessDeniedException", UNWRAP)
    with pytest.raises(StoreForbiddenError) as caught:
        opened().get(CHUNK)
    assert "kms:Decrypt" in caught.value.remedy
    assert len(kms.asked(UNWRAP)) == 1


def test_a_kms_key_that_is_disabled_or_gone_is_named(opened: Opened, kms: FakeKms) -> None:
    arn = kms.make_key()
    kms.disable(arn)
    with pytest.raises(StoreError, match="DisabledException") as caught:
        opened(kms_key=arn).put(CHUNK, b"bytes")
    assert "what state" in caught.value.remedy
    with pytest.raises(StoreError, match="alias/none"):
        opened(kms_key="alias/none").put(CHUNK, b"bytes")


def test_kms_out_of_reach_is_told_apart(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
    with pytest.raises(StoreUnavailableError, match="KMS key alias/crikpy cannot be reached"):
        opened(request_timeout_s=0.5).put(CHUNK, b"bytes")


def test_a_check_tries_both_rights(opened: Opened, bare: ObjectStore, kms: FakeKms) -> None:
    opened().check()
    for action in (MAKE, UNWRAP):
        kms.refuse("AccessDeniedException", action)
        with pytest.raises(StoreForbiddenError):
            opened().check()
        kms.permit()
    assert list(bare.list("")) == []


@pytest.mark.parametrize(
    "name",
    [
        ARN,
        ARN.replace("arn:aws:", "arn:aws-cn:"),
        "arn:aws:kms:us-gov-west-1:123456789012:alias/team/crikpy",
        "alias/crikpy",
        KEY_ID,
        "mrk-1234abcd12ab34cd56ef1234567890ab",
        f"{ARN} , alias/old",
    ],
)
def test_keys_are_named_by_arn_alias_or_id(name: str) -> None:
    Kms(StoreSettings(kms_key=name))


@pytest.mark.parametrize("name", ["crikpy", "arn:aws:s3:::bucket", f"{ARN},", "alias/", f"{ARN} alias/old"])
def test_anything_else_is_no_kms_key(name: str) -> None:
    with pytest.raises(SettingsError, match="CRIKPY_STORE_KMS_KEY") as caught:
        Kms(StoreSettings(kms_key=name))
    assert "alias/NAME" in caught.value.remedy


def test_keys_come_from_a_file_or_from_kms_not_from_both(tmp_path: Path) -> None:
    both = StoreSettings(kms_key=ALIAS, key_file=str(tmp_path / "keys"))
    with pytest.raises(SettingsError, match="CRIKPY_STORE_KEY_FILE and CRIKPY_STORE_KMS_KEY") as caught:
        open_store(str(tmp_path / "store"), both)
    assert "unset one" in caught.value.remedy


def test_the_region_is_that_of_the_arn(opened: Opened, kms: FakeKms, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = kms.make_key()
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    opened(kms_key=arn).put(CHUNK, b"bytes")
    opened(region="eu-west-1").put(CHUNK, b"bytes")
    with pytest.raises(SettingsError, match="no region") as caught:
        opened().get(CHUNK)
    assert "CRIKPY_STORE_REGION" in caught.value.remedy


def answered(code: str, status: int = 400) -> boto.ClientError:
    """Return an error that KMS answered with."""
    return boto.ClientError(
        {"Error": {"Code": code, "Message": "why"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "Decrypt",
    )


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (answered("AccessDeniedException"), StoreForbiddenError),
        (answered("UnrecognizedClientException"), StoreForbiddenError),
        (answered("Whatever", 403), StoreForbiddenError),
        (boto.NoCredentialsError(), StoreForbiddenError),
        (answered("ExpiredTokenException"), StoreUnavailableError),
        (answered("ThrottlingException"), StoreUnavailableError),
        (answered("KeyUnavailableException", 500), StoreUnavailableError),
        (answered("Whatever", 503), StoreUnavailableError),
        (boto.EndpointConnectionError(endpoint_url="https://kms"), StoreUnavailableError),
        (boto.ReadTimeoutError(endpoint_url="https://kms"), StoreUnavailableError),
        (answered("DisabledException"), StoreError),
        (answered("KMSInvalidStateException"), StoreError),
        (answered("NotFoundException"), StoreError),
        (boto.ParamValidationError(report="x"), StoreError),
        (boto.NoRegionError(), SettingsError),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_error_is_what_it_means(fault: Exception, meaning: type[CrikpyError]) -> None:
    assert type(translate(fault, ALIAS)) is meaning
