"""What an error of boto3 means in the tree of crikpy.errors; codes as in the S3 API reference, "Error responses".

Beside s3.py and kms.py, the only importer of botocore.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from botocore import exceptions as boto
from botocore.exceptions import ClientError

from crikpy.errors import (
    NoSuchBucketError,
    ObjectNotFoundError,
    SettingsError,
    StoreError,
    StoreForbiddenError,
    StoreFullError,
    StoreUnavailableError,
    UsageError,
)

_FORBIDDEN: Final = frozenset(
    {
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
    }
)
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
"""boto3 renews what a role lends, so that another attempt may come with something new."""

_SKEWED: Final = "RequestTimeTooSkewed"
"""A clock that jumps is set right before long, and each attempt is signed with the time that it has then."""

_BUSY: Final = frozenset({"OperationAborted", "RequestTimeout", "SlowDown", "Throttling", "ThrottlingException"})
_FULL: Final = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"})
_ELSEWHERE: Final = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
)

_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ConfigNotFound,
    boto.ProfileNotFound,
    boto.SSOError,
    boto.TokenRetrievalError,
)
BROKEN_BODY: Final = (boto.IncompleteReadError, boto.ReadTimeoutError, boto.ResponseStreamingError)
"""The store began to answer and broke off; boto3 does not repeat such requests."""

_UNREACHABLE: Final = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
)

_CREDENTIALS_REMEDY: Final = "check the AWS credentials of this process: environment, profile or instance role"


def is_skewed(answer: Mapping[str, Any]) -> bool:
    """Say whether boto3 tells of a request that was refused for the time with which it was signed."""
    return bool(answer.get("Error", {}).get("Code") == _SKEWED)


def is_refused_condition(fault: ClientError) -> bool:
    """Say whether a conditional write was refused because its condition does not hold."""
    code, status = _facts(fault)
    return code == "PreconditionFailed" or status == 412 or code == "NoSuchKey"


def is_conflict(fault: ClientError) -> bool:
    """Say whether a conditional write met another one under way, and must be tried again."""
    return _facts(fault)[0] == "ConditionalRequestConflict"


def translate(fault: Exception, *, url: str, key: str) -> StoreError | UsageError:
    """Return the error of our own tree for one of boto3's."""
    if isinstance(fault, ClientError):
        return _translate_answer(fault, url, key)
    if isinstance(fault, _NO_CREDENTIALS):
        return StoreForbiddenError(f"no credentials for {url}: {fault}", remedy=_CREDENTIALS_REMEDY)
    if isinstance(fault, boto.SSLError):
        return StoreError(f"no trusted connection to {url}: {fault}", remedy="check the endpoint's certificate")
    if isinstance(fault, _UNREACHABLE):
        return StoreUnavailableError(f"{url} cannot be reached: {fault}")
    if isinstance(fault, (boto.NoRegionError, boto.InvalidRegionError)):
        return SettingsError(f"no region for {url}: {fault}", remedy="set CRIKPY_STORE_REGION")
    if isinstance(fault, boto.ParamValidationError):
        return UsageError(f"{url} cannot be the URL of a bucket: {fault}")
    return StoreError(f"{url}: {fault}")


def _translate_answer(fault: ClientError, url: str, key: str) -> StoreError:
    code, status = _facts(fault)
    text = f"{url} answered {code} ({status}) for {key}: {fault.response.get('Error', {}).get('Message', '')}"
    if code in {"NoSuchBucket", "InvalidBucketName"}:
        return NoSuchBucketError(f"{url}: there is no such bucket", remedy="create it, or check the URL")
    if code == _SKEWED:
        return StoreUnavailableError(text, remedy="set this machine's clock")
    if code in _ELSEWHERE or status == 301:
        return StoreError(text, remedy="the bucket is in another region: set CRIKPY_STORE_REGION")
    if code in _FULL or status == 507:
        return StoreFullError(text, remedy="make room, or run crikpy gc")
    if code in _EXPIRED:
        return StoreUnavailableError(text, remedy=_CREDENTIALS_REMEDY)
    if code in _FORBIDDEN or status in {401, 403}:
        return StoreForbiddenError(text, remedy=_CREDENTIALS_REMEDY)
    if code in _BUSY or status >= 500 or status == 429:
        return StoreUnavailableError(text)
    if code == "NoSuchKey" or status == 404:
        return ObjectNotFoundError(f"{url} has no {key}")
    return StoreError(text)


def _facts(fault: ClientError) -> tuple[str, int]:
    """Return the error's code and the HTTP status."""
    code = fault.response.get("Error", {}).get("Code", "")
    return code, fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
