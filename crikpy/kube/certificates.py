"""The certificate by which the API server knows our webhook, and the authority that it is told to trust.

Each certificate has an authority of its own, whose key is thrown away as soon as it has signed: nothing is left
that could sign another. The API server trusts several authorities at once, so that an old certificate is good
while replicas go over to a new one. Only made and judged here; crikpy.controller.certifying keeps them.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crikpy.kube import raw
from crikpy.kube.raw import Json

_CERTIFICATE, _KEY, _AUTHORITIES = "tls.crt", "tls.key", "ca.crt"
"""Names in a Secret of the type kubernetes.io/tls, the last by custom."""

_UNREADABLE = (
    ValueError,
    TypeError,
    IndexError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for bytes that anybody may have put into the Secret."""

_SKEW = timedelta(minutes=5)
"""Clocks of API servers may be behind ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingCertificate:
    """A certificate with its key, and whom to trust for it.

    Attributes:
        certificate: PEM.
        key: PEM, never to be logged.
        authorities: PEM of its authority and of those before it that have not expired, the newest first.
        names: the DNS names that it is for.
        not_before: beginning of its life, aware UTC.
        not_after: end of its life, aware UTC.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    authorities: bytes
    names: frozenset[str]
    not_before: datetime
    not_after: datetime

    def is_due(self, names: Collection[str], now: datetime) -> bool:
        """Say whether another must take its place: two thirds of its life are over, or it is for other names."""
        age = now - self.not_before
        return age >= (self.not_after - self.not_before) * 2 / 3 or self.names != frozenset(names)


def issue(names: Collection[str], *, life: timedelta, now: datetime, before: bytes = b"") -> ServingCertificate:
    """Make a certificate and its authority.

    Args:
        names: DNS names; the first is also its subject.
        life: how long it is good.
        now: aware UTC.
        before: PEM of earlier authorities, kept until they expire.
    """
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    begin, end = (now - _SKEW).replace(microsecond=0), now + life
    issuer = _name(f"crikpy webhook {now:%Y%m%dT%H%M%S%fZ}")
    authority = (
        _draft(issuer, issuer, authority_key.public_key(), begin, end, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    first = next(iter(names))
    certificate = (
        _draft(_name(first[:64]), issuer, key.public_key(), begin, end, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return ServingCertificate(
        certificate=_pem(certificate),
        key=private,
        authorities=_pem(authority) + _still_good(before, now),
        names=frozenset(names),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def render_secret(serving: ServingCertificate, *, name: str, namespace: str, resource_version: str = "") -> Json:
    """Return the Secret that keeps it: a new one or, with a resource version, one that replaces what there is."""
    parts = {_CERTIFICATE: serving.certificate, _KEY: serving.key, _AUTHORITIES: serving.authorities}
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata | ({"resourceVersion": resource_version} if resource_version else {}),
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(value).decode() for key, value in parts.items()},
    }


def parse_secret(secret: Json) -> ServingCertificate | None:
    """Return what a raw Secret keeps, or None when that is not a certificate with its own key and authority."""
    data = raw.string_map(secret.get("data"))
    try:
        pem, key, authorities = (
            base64.b64decode(data.get(part, ""), validate=True) for part in (_CERTIFICATE, _KEY, _AUTHORITIES)
        )
        certificate = x509.load_pem_x509_certificate(pem)
        private = serialization.load_pem_private_key(key, password=None)
        trusted = x509.load_pem_x509_certificates(authorities)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        certificate.verify_directly_issued_by(trusted[0])
    except _UNREADABLE:
        return None
    if private.public_key() != certificate.public_key():
        return None
    return ServingCertificate(
        certificate=pem,
        key=key,
        authorities=authorities,
        names=frozenset(names.get_values_for_type(x509.DNSName)),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def bundles_of(configuration: Json) -> tuple[str, ...]:
    """Return whom each webhook of a raw webhook configuration is trusted by, base64 of PEM; "" for nobody."""
    return tuple(
        raw.text(raw.mapping(webhook.get("clientConfig")).get("caBundle"))
        for webhook in raw.items(configuration.get("webhooks"))
    )


def expiry_of(bundle: str) -> datetime | None:
    """Return when the last authority of a bundle (base64 of PEM) ends, aware UTC; None when there is none."""
    try:
        known = x509.load_pem_x509_certificates(base64.b64decode(bundle, validate=True))
    except ValueError:
        return None
    return max((one.not_valid_after_utc for one in known), default=None)


def with_bundle(configuration: Json, authorities: bytes) -> Json:
    """Return a raw webhook configuration that trusts these authorities in all of its webhooks."""
    bundle = {"caBundle": base64.b64encode(authorities).decode()}
    webhooks = [
        webhook | {"clientConfig": raw.mapping(webhook.get("clientConfig")) | bundle}
        for webhook in raw.items(configuration.get("webhooks"))
    ]
    return configuration | {"webhooks": webhooks}


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _draft(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begin: datetime,
    end: datetime,
    authority: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _still_good(authorities: bytes, now: datetime) -> bytes:
    """Return the authorities that have not expired; bytes that are none are dropped."""
    try:
        known = x509.load_pem_x509_certificates(authorities)
    except ValueError:
        return b""
    return b"".join(_pem(one) for one in known if one.not_valid_after_utc > now)
