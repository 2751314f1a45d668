"""The certificate in the cluster: made once, used by all replicas, renewed and trusted without a gap."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from crikpy.aio import tasks
from crikpy.aio.serving import Request, Response, Server
from crikpy.controller.certifying import Certifier, load_certificate
from crikpy.kube.certificates import ServingCertificate, issue, parse_secret, render_secret
from crikpy.kube.client import KubeClient
from crikpy.kube.resources import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS
from crikpy.settings import ControllerSettings
from tests.fakes.kube import FakeKube

SECRET = "crikpy-webhook-tls"
NAMESPACE = "crikpy-system"
HOST = f"crikpy-webhook.{NAMESPACE}.svc"
NAMES = (HOST, f"{HOST}.cluster.local")
SETTINGS = ControllerSettings()


class Cluster:
    """An API server with both webhook configurations, and replicas that are told to begin."""

    def __init__(self, kube: FakeKube, api: KubeClient) -> None:
        self.kube = kube
        self.api = api
        self._tasks: list[asyncio.Task[Any]] = []

    def replica(self, *, leads: bool = False, look_every_s: float = 0.02) -> Certifier:
        certifier = Certifier(self.api, SETTINGS, look_every_s=look_every_s, settle_s=0.1)
        self._tasks.append(asyncio.create_task(certifier.follow()))
        if leads:
            self._tasks.append(asyncio.create_task(certifier.lead()))
        return certifier

    async def end(self) -> None:
        for task in self._tasks:
            await tasks.stop(task)

    def serving(self) -> ServingCertificate | None:
        secret = self.kube.get(SECRETS, SECRET, namespace=NAMESPACE)
        return None if secret is None else parse_secret(secret)

    def trusted(self, kind: Any = MUTATING_WEBHOOKS) -> set[bytes]:
        configuration = self.kube.get(kind, "crikpy-webhook")
        assert configuration is not None
        return {base64.b64decode(one["clientConfig"].get("caBundle", "")) for one in configuration["webhooks"]}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                assert not [task for task in self._tasks if task.done()]
                await asyncio.sleep(0.01)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with FakeKube().serving() as kube:
        for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            webhooks = [{"name": name, "clientConfig": {"service": {"name": "s"}}} for name in ("a", "b")]
            kube.put(kind, {"metadata": {"name": "crikpy-webhook"}, "webhooks": webhooks})
        async with await KubeClient.connect(kube.settings(tmp_path)) as api:
            world = Cluster(kube, api)
            try:
                yield world
            finally:
                await world.end()


async def _hello(_: Request) -> Response:
    return Response(body="hello")


@contextlib.asynccontextmanager
async def webhook_of(certifier: Certifier) -> AsyncIterator[Callable[[bytes], Any]]:
    """Serve with a replica's certificate; what is yielded calls it, trusting the given authorities."""
    server = Server({"GET /": _hello}, address="127.0.0.1", port=0, tls=certifier.tls)
    async with server, aiohttp.ClientSession() as client:

        async def call(authorities: bytes) -> str:
            trust = ssl.create_default_context(cadata=authorities.decode())
            url = f"https://127.0.0.1:{server.port}/"
            async with client.get(url, ssl=trust, server_hostname=HOST, headers={"Connection": "close"}) as answer:
                return await answer.text()

        yield call


async def test_one_certificate_is_made_and_all_replicas_use_it_at_once(cluster: Cluster) -> None:
    replicas = [cluster.replica(look_every_s=3600) for _ in range(5)]
    assert replicas[0].complaint() == "the webhook has no certificate yet"
    await cluster.until(lambda: not any(one.complaint() for one in replicas))
    serving = cluster.serving()
    assert serving is not None
    assert serving.names == set(NAMES)
    for one in replicas:
        async with webhook_of(one) as call:
            assert await call(serving.authorities) == "hello"


async def test_the_leader_has_both_configurations_trust_it(cluster: Cluster) -> None:
    cluster.replica(leads=True)
    await cluster.until(lambda: b"" not in cluster.trusted() | cluster.trusted(VALIDATING_WEBHOOKS))
    serving = cluster.serving()
    assert serving is not None
    assert cluster.trusted() == cluster.trusted(VALIDATING_WEBHOOKS) == {serving.authorities}


async def test_a_configuration_that_was_applied_anew_is_put_right(cluster: Cluster) -> None:
    cluster.replica(leads=True)
    await cluster.until(lambda: b"" not in cluster.trusted())
    configuration = cluster.kube.get(MUTATING_WEBHOOKS, "crikpy-webhook")
    assert configuration is not None
    reset = [{"name": "a", "clientConfig": {"service": {"name": "s"}}, "timeoutSeconds": 9}]
    cluster.kube.put(MUTATING_WEBHOOKS, configuration | {"webhooks": reset})
    await cluster.until(lambda: b"" not in cluster.trusted())
    after = cluster.kube.get(MUTATING_WEBHOOKS, "crikpy-webhook")
    assert after is not None
    assert after["webhooks"][0]["timeoutSeconds"] == 9


async def test_nothing_is_written_while_all_is_well(cluster: Cluster) -> None:
    cluster.replica(leads=True)
    await cluster.until(lambda: b"" not in cluster.trusted() | cluster.trusted(VALIDATING_WEBHOOKS))
    reads = len(cluster.kube.requests)
    await cluster.until(lambda: len(cluster.kube.requests) > reads + 20)
    assert {one.verb for one in cluster.kube.requests[reads + 5 :]} == {"get"}


async def test_a_certificate_that_is_due_is_replaced_while_every_call_succeeds(cluster: Cluster) -> None:
    old = issue(NAMES, life=timedelta(hours=1), now=datetime.now(UTC) - timedelta(minutes=50))
    cluster.kube.put(SECRETS, render_secret(old, name=SECRET, namespace=NAMESPACE))
    leader, other = cluster.replica(leads=True), cluster.replica()
    await cluster.until(lambda: not leader.complaint() and not other.complaint())
    await cluster.until(lambda: b"" not in cluster.trusted())
    failures: list[str] = []
    async with webhook_of(leader) as first, webhook_of(other) as second:
        while (serving := cluster.serving()) is None or serving.certificate == old.certificate:
            for call in (first, second):
                (trusted,) = cluster.trusted()
                try:
                    await call(trusted)
                except aiohttp.ClientError as fault:
                    failures.append(str(fault))
        await asyncio.sleep(0.2)
        (trusted,) = cluster.trusted()
        fresh_only = trusted.removesuffix(old.authorities)
        assert fresh_only != trusted
        assert await first(fresh_only) == await second(fresh_only) == "hello"
    assert failures == []
    written = [one.resource for one in cluster.kube.seen("replace")]
    assert written[-3:] == [MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, SECRETS]


async def test_a_spoilt_secret_is_replaced_and_meanwhile_the_old_certificate_serves(cluster: Cluster) -> None:
    follower = cluster.replica()
    await cluster.until(lambda: not follower.complaint())
    before = cluster.serving()
    assert before is not None
    cluster.kube.update(SECRETS, SECRET, {"data": {"tls.key": ""}}, namespace=NAMESPACE)
    assert cluster.serving() is None
    async with webhook_of(follower) as call:
        assert await call(before.authorities) == "hello"
        cluster.replica(leads=True)
        await cluster.until(lambda: cluster.serving() is not None)
        after = cluster.serving()
        assert after is not None
        assert after.certificate != before.certificate


async def test_a_lost_secret_is_made_anew(cluster: Cluster) -> None:
    cluster.replica(leads=True)
    await cluster.until(lambda: cluster.serving() is not None)
    cluster.kube.remove(SECRETS, SECRET, namespace=NAMESPACE)
    await cluster.until(lambda: cluster.serving() is not None)
    serving = cluster.serving()
    assert serving is not None
    await cluster.until(lambda: cluster.trusted() == {serving.authorities})


async def test_another_service_name_gets_another_certificate(cluster: Cluster) -> None:
    other = issue(("other.svc",), life=timedelta(days=9), now=datetime.now(UTC))
    cluster.kube.put(SECRETS, render_secret(other, name=SECRET, namespace=NAMESPACE))
    cluster.replica(leads=True)
    await cluster.until(lambda: (serving := cluster.serving()) is not None and serving.names == set(NAMES))


async def test_an_outage_ends_nothing_and_is_said_once(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    cluster.kube.trouble("503")
    with caplog.at_level(logging.WARNING):
        replica = cluster.replica(leads=True)
        await cluster.until(lambda: len(cluster.kube.requests) > 10)
    assert 1 <= len(caplog.records) <= 2
    cluster.kube.heal()
    await cluster.until(lambda: not replica.complaint())


async def test_missing_configurations_are_said_and_waited_for(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    configuration = cluster.kube.get(MUTATING_WEBHOOKS, "crikpy-webhook")
    assert configuration is not None
    cluster.kube.remove(MUTATING_WEBHOOKS, "crikpy-webhook")
    with caplog.at_level(logging.WARNING):
        cluster.replica(leads=True)
        await cluster.until(lambda: b"" not in cluster.trusted(VALIDATING_WEBHOOKS))
    assert "there is no MutatingWebhookConfiguration crikpy-webhook" in caplog.text
    cluster.kube.put(
        MUTATING_WEBHOOKS, {"metadata": {"name": "crikpy-webhook"}, "webhooks": configuration["webhooks"]}
    )
    await cluster.until(lambda: b"" not in cluster.trusted())


async def test_no_key_is_logged(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        cluster.replica(leads=True)
        await cluster.until(lambda: b"" not in cluster.trusted())
    serving = cluster.serving()
    assert serving is not None
    middle = serving.key.decode().splitlines()[1]
    assert middle not in caplog.text
    assert base64.b64encode(serving.key).decode()[:40] not in caplog.text


def test_a_pair_that_does_not_belong_together_leaves_the_context_as_it_was() -> None:
    good, other = (issue(NAMES, life=timedelta(days=1), now=datetime.now(UTC)) for _ in range(2))
    mixed = ServingCertificate(
        certificate=other.certificate,
        key=good.key,
        authorities=good.authorities,
        names=good.names,
        not_before=good.not_before,
        not_after=good.not_after,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_certificate(tls, good)
    with pytest.raises(ssl.SSLError):
        load_certificate(tls, mixed)
    assert _certificate_shown(tls) == ssl.PEM_cert_to_DER_cert(good.certificate.decode())


def _certificate_shown(tls: ssl.SSLContext) -> bytes | None:
    """Return what a client is shown, by a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    client = trusting.wrap_bio(to_client, to_server)
    server = tls.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return client.getpeercert(binary_form=True)


def weak_certificate() -> ServingCertificate:
    """Return a pair that is whole and in force, with a key shorter than what TLS libraries serve."""
    strong = issue(NAMES, life=timedelta(days=90), now=datetime.now(UTC))
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(strong.not_before)
        .not_valid_after(strong.not_after)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in NAMES]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return replace(strong, certificate=certificate, key=private, authorities=certificate)


async def test_a_certificate_that_cannot_be_served_leaves_the_old_one_in_its_place(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    one = cluster.replica()
    await cluster.until(lambda: one.complaint() is None)
    before = cluster.serving()
    assert before is not None
    cluster.kube.update(
        SECRETS, SECRET, render_secret(weak_certificate(), name=SECRET, namespace=NAMESPACE), namespace=NAMESPACE
    )
    await cluster.until(lambda: "cannot be served" in caplog.text)
    async with webhook_of(one) as call:
        assert await call(before.authorities) == "hello"
