"""AWS KMS, which makes data keys and wraps them; the KMS key itself never leaves it.

Each call asks once: whoever calls knows how long he may wait, and tries again (aio/retrying.py). A wrapped key is
only ever given to KMS keys that the settings name, never to the one that it names itself: whoever owns that might
choose our data keys. Credentials come from boto3's own chain and never from settings of ours.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from crikpy import __version__
from crikpy.errors import (
    IntegrityError,
    SettingsError,
    StoreError,
    StoreForbiddenError,
    StoreUnavailableError,
    UsageError,
)
from crikpy.settings import StoreSettings
from crikpy.store import s3_errors
from crikpy.store.keyring import UnwrappedKey, WrappedKey

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

_CONNECT_S: Final = 3.0
_READ_S: Final = 5.0
"""KMS answers within milliseconds, or does not; whoever waits has a job to save."""

_MOST_WRAPPED_BYTES: Final = 6144
"""KMS takes no more; it gives some 200."""

_ID: Final = r"(?:mrk-)?[0-9a-f-]{32,36}"
_NAME: Final = re.compile(
    rf"arn:[a-z-]+:kms:(?P<region>[a-z0-9-]+):[0-9]{{12}}:(?:key/{_ID}|alias/[\w/-]+)|alias/[\w/-]+|{_ID}"
)

_NOT_OURS: Final = frozenset({"IncorrectKeyException", "InvalidCiphertextException"})
_BUSY: Final = frozenset(
    {
        "DependencyTimeoutException",
        "KMSInternalException",
        "KeyUnavailableException",
        "LimitExceededException",
        "RequestTimeout",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "Throttling",
        "ThrottlingException",
    }
)
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
"""boto3 renews what a role lends, so that another attempt may come with something new."""

_FORBIDDEN: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_RIGHTS: Final = "the role needs kms:GenerateDataKey and kms:Decrypt on this key, see docs/install.md"
_STATE: Final = "see what state the key is in; take one that is gone for good out of CRIKPY_STORE_KMS_KEY"


class Kms:
    """The KMS keys of the settings: the first wraps, all of them unwrap (keyring.Wrapper)."""

    def __init__(self, settings: StoreSettings) -> None:
        """Take the settings; nothing is reached before the first use.

        Raises:
            SettingsError: they name something else than KMS keys.
        """
        self._names = tuple(name.strip() for name in settings.kms_key.split(","))
        wrong = [name for name in self._names if not _NAME.fullmatch(name)]
        if wrong:
            raise SettingsError(
                f"CRIKPY_STORE_KMS_KEY names no KMS key: {', '.join(map(repr, wrong))}",
                remedy="give the ARN of a key or of an alias, alias/NAME, or several separated by commas",
            )
        self._region = settings.region
        self._timeout_s = settings.request_timeout_s
        self._lock = threading.Lock()
        self._clients: dict[str, KMSClient] = {}

    def make(self, context: Mapping[str, str]) -> WrappedKey:
        """Ask for a new data key: kms:GenerateDataKey."""
        name = self._names[0]
        try:
            answer = self._client(name).generate_data_key(
                KeyId=name, KeySpec="AES_256", EncryptionContext=dict(context)
            )
        except (ClientError, BotoCoreError) as fault:
            raise translate(fault, name) from fault
        return WrappedKey(secret=answer["Plaintext"], wrapped=answer["CiphertextBlob"], by=answer["KeyId"])

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> UnwrappedKey:
        """Have a wrapped key opened, by one of our KMS keys after another: kms:Decrypt."""
        names = self._names if 0 < len(wrapped) <= _MOST_WRAPPED_BYTES else ()
        for number, name in enumerate(names):
            try:
                answer = self._client(name).decrypt(
                    KeyId=name, CiphertextBlob=wrapped, EncryptionContext=dict(context)
                )
            except (ClientError, BotoCoreError) as fault:
                if _code(fault) not in _NOT_OURS:
                    raise translate(fault, name) from fault
            else:
                return UnwrappedKey(secret=answer["Plaintext"], current=number == 0)
        raise IntegrityError(
            f"no KMS key of ours opens this data key for {', '.join(map('='.join, context.items()))}",
            remedy="keep earlier KMS keys in CRIKPY_STORE_KMS_KEY, behind the one of today",
        )

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, name: str) -> KMSClient:
        """Return the client of the region that a key's ARN names, else of the settings' or the environment's."""
        found = _NAME.fullmatch(name)
        region = (found and found["region"]) or self._region
        with self._lock:
            if region not in self._clients:
                config = Config(
                    connect_timeout=min(_CONNECT_S, self._timeout_s),
                    read_timeout=min(_READ_S, self._timeout_s),
                    retries={"mode": "standard", "total_max_attempts": 1},
                    user_agent_extra=f"crikpy/{__version__}",
                )
                try:
                    made = boto3.session.Session().client("kms", region_name=region or None, config=config)
                except ValueError as fault:
                    raise SettingsError(f"no KMS client: {fault}", remedy="check AWS_ENDPOINT_URL_KMS") from fault
                self._clients[region] = made
            return self._clients[region]


def translate(fault: Exception, name: str) -> StoreError | UsageError:
    """Return the error of our own tree for one of boto3's; codes as in the KMS API reference."""
    if isinstance(fault, ParamValidationError):
        return StoreError(f"KMS cannot be asked like this: {fault}")
    if not isinstance(fault, ClientError):
        return s3_errors.translate(fault, url=f"the KMS key {name}", key="")
    code, answer = _code(fault), fault.response
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    text = f"KMS answered {code} ({status}) for {name}: {answer.get('Error', {}).get('Message', '')}"
    if code in _FORBIDDEN:
        return StoreForbiddenError(text, remedy=_RIGHTS)
    if code in _BUSY or code in _EXPIRED or status >= 500 or status == 429:
        return StoreUnavailableError(text, remedy="see whether KMS can be reached and its request quota suffices")
    if status in {401, 403}:
        return StoreForbiddenError(text, remedy=_RIGHTS)
    return StoreError(text, remedy=_STATE)


def _code(fault: Exception) -> str:
    return fault.response.get("Error", {}).get("Code", "") if isinstance(fault, ClientError) else ""
