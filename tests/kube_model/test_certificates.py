"""The webhook's certificate: what API servers demand of it, when it is replaced, and who is trusted meanwhile."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given
from hypothesis import strategies as st

from crikpy.kube.certificates import bundles_of, issue, parse_secret, render_secret, with_bundle

NAMES = ("crikpy-webhook.crikpy-system.svc", "crikpy-webhook.crikpy-system.svc.cluster.local")
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
LIFE = timedelta(days=90)


@pytest.mark.parametrize("name", NAMES)
def test_a_strict_verifier_takes_it_for_its_names(name: str) -> None:
    serving = issue(NAMES, life=LIFE, now=NOW)
    store = Store(x509.load_pem_x509_certificates(serving.authorities))
    verifier = PolicyBuilder().store(store).time(NOW).build_server_verifier(x509.DNSName(name))
    certificate = x509.load_pem_x509_certificate(serving.certificate)
    assert verifier.verify(certificate, [])[0] == certificate
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_it_is_good_for_clocks_that_are_a_little_behind() -> None:
    assert issue(NAMES, life=LIFE, now=NOW).not_before <= NOW - timedelta(minutes=4)


def test_it_is_due_after_two_thirds_of_its_life() -> None:
    serving = issue(NAMES, life=LIFE, now=NOW)
    assert not serving.is_due(NAMES, NOW)
    assert not serving.is_due(NAMES, NOW + timedelta(days=59))
    assert serving.is_due(NAMES, NOW + timedelta(days=61))
    assert serving.is_due(NAMES, serving.not_after)


def test_it_is_due_when_it_is_for_other_names() -> None:
    serving = issue(NAMES, life=LIFE, now=NOW)
    assert serving.is_due(NAMES[:1], NOW)
    assert not serving.is_due(list(reversed(NAMES)), NOW)


def test_the_authority_before_it_is_trusted_until_it_expires() -> None:
    first = issue(NAMES, life=LIFE, now=NOW)
    second = issue(NAMES, life=LIFE, now=NOW + timedelta(days=60), before=first.authorities)
    third = issue(NAMES, life=LIFE, now=NOW + timedelta(days=120), before=second.authorities)
    assert second.authorities.endswith(first.authorities)
    assert second.authorities.count(b"BEGIN CERTIFICATE") == 2
    assert first.authorities not in third.authorities
    assert third.authorities.count(b"BEGIN CERTIFICATE") == 2


def test_each_has_an_authority_of_its_own() -> None:
    first, second = (issue(NAMES, life=LIFE, now=NOW) for _ in range(2))
    store = Store(x509.load_pem_x509_certificates(first.authorities))
    verifier = PolicyBuilder().store(store).time(NOW).build_server_verifier(x509.DNSName(NAMES[0]))
    with pytest.raises(x509.verification.VerificationError):
        verifier.verify(x509.load_pem_x509_certificate(second.certificate), [])


def test_rubbish_among_the_authorities_is_dropped() -> None:
    assert issue(NAMES, life=LIFE, now=NOW, before=b"rubbish").authorities.count(b"BEGIN") == 1


def test_a_secret_keeps_all_of_it() -> None:
    serving = issue(NAMES, life=LIFE, now=NOW)
    secret = render_secret(serving, name="tls", namespace="here", resource_version="7")
    assert secret["metadata"] == {"name": "tls", "namespace": "here", "resourceVersion": "7"}
    assert secret["type"] == "kubernetes.io/tls"
    assert parse_secret(secret) == serving


def test_no_key_shows_in_its_description() -> None:
    serving = issue(NAMES, life=LIFE, now=NOW)
    assert "PRIVATE" not in repr(serving)


def spoil(part: str, value: bytes) -> dict[str, Any]:
    secret = render_secret(issue(NAMES, life=LIFE, now=NOW), name="tls", namespace="here")
    secret["data"][part] = base64.b64encode(value).decode()
    return secret


OTHER = issue(NAMES, life=LIFE, now=NOW)


@pytest.mark.parametrize(
    "secret",
    [
        {},
        {"data": None},
        spoil("tls.crt", b""),
        spoil("tls.crt", OTHER.certificate),
        spoil("tls.key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        spoil("tls.key", OTHER.key),
        spoil("ca.crt", b""),
        spoil("ca.crt", OTHER.authorities),
        {"data": {"tls.crt": "%", "tls.key": "%", "ca.crt": "%"}},
    ],
)
def test_a_secret_whose_parts_do_not_belong_together_keeps_nothing(secret: dict[str, Any]) -> None:
    assert parse_secret(secret) is None


@given(
    st.sampled_from(["tls.crt", "tls.key", "ca.crt"]), st.integers(0, 10_000), st.binary(min_size=1, max_size=3)
)
def test_a_damaged_secret_is_no_failure(part: str, place: int, damage: bytes) -> None:
    whole = {"tls.crt": OTHER.certificate, "tls.key": OTHER.key, "ca.crt": OTHER.authorities}[part]
    place %= len(whole)
    secret = render_secret(OTHER, name="tls", namespace="here")
    secret["data"][part] = base64.b64encode(whole[:place] + damage + whole[place + len(damage) :]).decode()
    parse_secret(secret)


def test_every_webhook_of_a_configuration_gets_the_bundle() -> None:
    configuration = {
        "metadata": {"name": "x", "resourceVersion": "3"},
        "webhooks": [
            {"name": "a", "clientConfig": {"service": {"name": "s"}, "caBundle": "old"}, "unknownField": 1},
            {"name": "b", "clientConfig": {"url": "https://x"}},
        ],
    }
    assert bundles_of(configuration) == ("old", "")
    changed = with_bundle(configuration, b"PEM")
    assert bundles_of(changed) == ("UEVN", "UEVN")
    assert changed["metadata"] == configuration["metadata"]
    assert changed["webhooks"][0]["unknownField"] == 1
    assert changed["webhooks"][0]["clientConfig"]["service"] == {"name": "s"}
    assert bundles_of(configuration) == ("old", "")
