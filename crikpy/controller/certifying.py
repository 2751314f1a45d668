"""The webhook's certificate: made by whoever comes first, used by every replica, renewed by the leader.

It lives in one Secret, which every replica looks at again and again; the webhook configurations of the cluster are
made to trust its authority. A new authority is trusted before its certificate is used, and an old one until it
expires, so that no review fails for a rotation. The key is in the Secret and in memory, never in a file or a log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from crikpy.errors import KubeConflictError, KubeError, KubeNotFoundError
from crikpy.kube.api import KubeApi
from crikpy.kube.certificates import (
    ServingCertificate,
    bundles_of,
    issue,
    parse_secret,
    render_secret,
    with_bundle,
)
from crikpy.kube.raw import Json
from crikpy.kube.resources import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS, Resource
from crikpy.kube.sessions import Sessions
from crikpy.metrics import Metrics
from crikpy.settings import ControllerSettings

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 10.0
_SETTLE_S = 5.0
"""Between the trust in a new authority and the use of its certificate: API servers hear of it by a watch."""

_REMIND_S = 600.0
"""The same complaint is made again after so long."""

_CONFLICTS = 5


class Certifier:
    """Keeps the certificate of one replica's webhook.

    Attributes:
        tls: for the servers; connections that begin after a rotation use the new certificate.
        sessions: of the status page, sealed with what is made of the certificate's key.
    """

    def __init__(
        self,
        api: KubeApi,
        settings: ControllerSettings,
        *,
        metrics: Metrics | None = None,
        look_every_s: float = _LOOK_EVERY_S,
        settle_s: float = _SETTLE_S,
    ) -> None:
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._api = api
        self._settings = settings
        self._metrics = metrics or Metrics()
        self._look_every_s = look_every_s
        self._settle_s = settle_s
        self._secret = f"{settings.service}-tls"
        host = f"{settings.service}.{settings.namespace}.svc"
        self._names = (host, f"{host}.cluster.local", *_names_of_page(settings))
        self.sessions = Sessions(settings.page_login_s)
        self._used: bytes = b""
        self._said: dict[str, float] = {}

    def complaint(self) -> str | None:
        """Return why the webhook cannot serve yet, or None; for /readyz."""
        return None if self._used else "the webhook has no certificate yet"

    async def follow(self) -> None:
        """Use what the Secret holds, and make it where there is none; for ever, on every replica."""
        while True:
            with self._outages():
                self._use(await self._read_or_make())
            await asyncio.sleep(self._look_every_s)

    async def lead(self) -> None:
        """Renew the certificate when it is due, and keep the API server trusting it; for ever, on the leader."""
        while True:
            with self._outages():
                await self._keep_current()
            await asyncio.sleep(self._look_every_s)

    async def _keep_current(self) -> None:
        secret = await self._get_secret()
        serving = None if secret is None else parse_secret(secret)
        if secret is not None and (serving is None or serving.is_due(self._names, datetime.now(UTC))):
            fresh = self._issue(before=b"" if serving is None else serving.authorities)
            await self._trust(fresh.authorities)
            await asyncio.sleep(self._settle_s)
            await self._replace(secret, fresh)
            _log.info("the webhook has a new certificate, good until %s", fresh.not_after.isoformat())
        elif serving is not None:
            await self._trust(serving.authorities)

    async def _read_or_make(self) -> ServingCertificate | None:
        secret = await self._get_secret()
        if secret is not None:
            return parse_secret(secret)
        fresh = self._issue()
        try:
            await self._api.create(SECRETS, self._render(fresh), namespace=self._settings.namespace)
        except KubeConflictError:
            return parse_secret(await self._api.get(SECRETS, self._secret, namespace=self._settings.namespace))
        _log.info("the webhook has its first certificate, good until %s", fresh.not_after.isoformat())
        return fresh

    async def _get_secret(self) -> Json | None:
        with contextlib.suppress(KubeNotFoundError):
            return await self._api.get(SECRETS, self._secret, namespace=self._settings.namespace)
        return None

    async def _replace(self, secret: Json, fresh: ServingCertificate) -> None:
        version = str(secret["metadata"]["resourceVersion"])
        body = self._render(fresh, resource_version=version)
        await self._api.replace(SECRETS, self._secret, body, namespace=self._settings.namespace)

    def _issue(self, *, before: bytes = b"") -> ServingCertificate:
        life = timedelta(days=self._settings.certificate_days)
        return issue(self._names, life=life, now=datetime.now(UTC), before=before)

    def _render(self, fresh: ServingCertificate, *, resource_version: str = "") -> Json:
        return render_secret(
            fresh, name=self._secret, namespace=self._settings.namespace, resource_version=resource_version
        )

    def _use(self, serving: ServingCertificate | None) -> None:
        """Load a certificate that is not in use yet; one that cannot be read leaves the old one where it is."""
        if serving is None:
            self._say(f"Secret {self._secret} holds no certificate that can be used; the leader will replace it")
        elif serving.certificate != self._used:
            try:
                load_certificate(self.tls, serving)
            except ssl.SSLError as fault:
                self._say(f"the certificate in Secret {self._secret} cannot be served: {fault}")
            else:
                self._used = serving.certificate
                self.sessions.use(serving.key)
                self._metrics.certificate_expiry.set(serving.not_after.timestamp())

    async def _trust(self, authorities: bytes) -> None:
        """Have both webhook configurations trust exactly these authorities."""
        for resource in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            try:
                await self._trust_in(resource, authorities)
            except KubeNotFoundError:
                self._say(f"there is no {resource.kind} {self._settings.webhook_name}: pods get no launcher")

    async def _trust_in(self, resource: Resource, authorities: bytes) -> None:
        name = self._settings.webhook_name
        for _ in range(_CONFLICTS):
            configuration = await self._api.get(resource, name)
            wanted = with_bundle(configuration, authorities)
            if bundles_of(wanted) == bundles_of(configuration):
                return
            with contextlib.suppress(KubeConflictError):
                await self._api.replace(resource, name, wanted)
                _log.info("%s %s trusts the webhook's certificate", resource.kind, name)
                return
        raise KubeConflictError(f"{resource.kind} {name} changes all the time")

    @contextlib.contextmanager
    def _outages(self) -> Iterator[None]:
        """Keep a loop going through troubles of the API."""
        try:
            yield
        except KubeConflictError as race:
            _log.info("somebody else was faster with the webhook's certificate: %s", race)
        except KubeError as fault:
            self._say(f"the webhook's certificate cannot be kept for now: {fault}")

    def _say(self, complaint: str) -> None:
        if time.monotonic() - self._said.get(complaint, -_REMIND_S) >= _REMIND_S:
            self._said[complaint] = time.monotonic()
            _log.warning("%s", complaint)


def _names_of_page(settings: ControllerSettings) -> tuple[str, ...]:
    """Return by which names the status page is reached, where it is on; `localhost` by kubectl port-forward."""
    if not settings.page_port:
        return ()
    host = f"{settings.page_service}.{settings.namespace}.svc"
    return host, f"{host}.cluster.local", "localhost"


def load_certificate(tls: ssl.SSLContext, serving: ServingCertificate) -> None:
    """Have a TLS context use a certificate.

    The library takes files only; the key goes through one that exists in memory alone. A context that took a
    certificate but not its key would serve nobody, so that another tries the pair first.

    Raises:
        ssl.SSLError: the two do not belong together.
    """
    file = os.memfd_create("crikpy-tls", os.MFD_CLOEXEC)
    try:
        os.write(file, serving.key + serving.certificate)
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls):
            context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
