"""KMS for tests: moto's, which wraps and binds to a context for real, with the refusals that moto lacks.

One for each FakeAws, whose server answers. Usable without pytest.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.kms.exceptions import AccessDeniedException
from moto.kms.models import kms_backends
from moto.kms.responses import KmsResponse

from tests.fakes.aws import REGION, FakeAws

ACCOUNT = "123456789012"
MAKE, UNWRAP = "GenerateDataKey", "Decrypt"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: for what, with which KMS key, bound to what."""

    action: str
    key: str
    context: Mapping[str, str]


@dataclass
class _State:
    asked: list[Asked] = field(default_factory=list)
    refusals: list[list[Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


_state = _State()
"""The servers of one process share moto's state, too."""


class FakeKms:
    """KMS of a fake AWS, as somebody sees it who may do everything."""

    def __init__(self, aws: FakeAws) -> None:
        """Take the server; forgets what another one was told to refuse."""
        _extend_moto()
        _state.asked.clear()
        _state.refusals.clear()
        self._aws = aws

    def make_key(self, alias: str = "") -> str:
        """Make a KMS key and return its ARN; give it an alias, or move one to it."""
        with self._client() as kms:
            arn = str(kms.create_key()["KeyMetadata"]["Arn"])
            if alias and alias in {found["AliasName"] for found in kms.list_aliases()["Aliases"]}:
                kms.delete_alias(AliasName=alias)
            if alias:
                kms.create_alias(AliasName=alias, TargetKeyId=arn)
            return arn

    def disable(self, arn: str) -> None:
        """Have a key be of no use."""
        with self._client() as kms:
            kms.disable_key(KeyId=arn.rpartition("/")[2])  # moto takes no ARN here

    def refuse(self, code: str, *actions: str, times: int = 1_000_000, status: int = 400) -> None:
        """Answer the next requests with an error; of all actions where none is named."""
        _state.refusals.append([code, status, times, set(actions) or {MAKE, UNWRAP}])

    def permit(self) -> None:
        """Answer again."""
        _state.refusals.clear()

    def asked(self, action: str) -> list[Asked]:
        """Return the requests for something so far, those included that were refused."""
        return [each for each in _state.asked if each.action == action]

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        with contextlib.closing(self._aws.client("kms")) as client:
            yield client


class RefusedError(JsonRESTError):
    """An error as KMS answers it."""

    def __init__(self, code: str, status: int = 400) -> None:
        self.code = status
        super().__init__(code, "as the test says")


def _extend_moto() -> None:
    """Teach moto to refuse, and to tell KMS keys apart as KMS does."""
    if getattr(KmsResponse, "crikpy_taught", False):
        return
    make, unwrap = KmsResponse.generate_data_key, KmsResponse.decrypt

    def taught(action: str, act: Callable[[KmsResponse], str]) -> Callable[[KmsResponse], str]:
        def call(response: KmsResponse) -> str:
            key = str(response._get_param("KeyId"))
            _note(Asked(action, key, response._get_param("EncryptionContext") or {}))
            _require_enabled(key)
            if action == UNWRAP and not 0 < len(response._get_param("CiphertextBlob")) <= 6144:
                raise RefusedError("ValidationException")
            try:
                return act(response)
            except AccessDeniedException as other:
                raise RefusedError("IncorrectKeyException") from other

        return call

    for name, call in {
        "generate_data_key": taught(MAKE, make),
        "decrypt": taught(UNWRAP, unwrap),
        "crikpy_taught": True,
    }.items():
        setattr(KmsResponse, name, call)


def _note(asked: Asked) -> None:
    with _state.lock:
        _state.asked.append(asked)
        for refusal in _state.refusals:
            code, status, times, actions = refusal
            if asked.action in actions and times > 0:
                refusal[2] -= 1
                raise RefusedError(code, status)


def _require_enabled(key: str) -> None:
    backend = kms_backends[ACCOUNT][REGION]
    found = backend.keys.get(backend.any_id_to_key_id(key) or "")
    if found is not None and found.key_state == "Disabled":
        raise RefusedError("DisabledException")
