"""Requests to hosts that users name go nowhere where this process has a special place."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

import pytest

from crikpy.errors import RegistryError
from crikpy.registry.fetching import Fetcher, is_allowed
from tests.fakes.certificates import make_certificate
from tests.fakes.registry import FakeRegistry


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "169.254.170.23",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
    ],
)
def test_an_address_of_this_machine_or_its_cloud_is_not_asked(address: str) -> None:
    assert not is_allowed(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["10.0.0.5", "192.168.1.1", "140.82.121.34", "2606:50c0::1", "fd12::5", "64:ff9b::8c52:7922"]
)
def test_any_other_address_may_be_a_registry(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_the_loopback_is_refused_however_it_is_written(host: str, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with FakeRegistry().serving(tls=tls) as registry, Fetcher() as fetcher:
        port = registry.server.rpartition(":")[2]
        with pytest.raises(RegistryError, match="its address is not one that registries have"):
            await fetcher.fetch(f"https://{host}:{port}/v2/", largest=10)
        assert registry.asked == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1/", "without TLS"),
        ("http://registry.example/", "without TLS"),
        ("ftp://registry.example/", "without TLS"),
        ("file:///etc/passwd", "without TLS"),
        ("https://user:pw@registry.example/", "credentials"),
        ("https://[/", "no address"),
        ("https://2130706433/", "cannot be asked"),
        ("https://127.1/", "cannot be asked"),
    ],
)
async def test_other_schemes_and_odd_addresses_are_refused(url: str, message: str) -> None:
    async with Fetcher() as fetcher:
        with pytest.raises(RegistryError, match=message):
            await fetcher.fetch(url, largest=10)


async def test_a_redirect_leads_nowhere_else_either() -> None:
    async with FakeRegistry().serving() as registry, Fetcher(plain_hosts={registry.server}) as fetcher:
        registry.blobs_elsewhere = "http://169.254.169.254/latest"
        with pytest.raises(RegistryError, match="without TLS"):
            await fetcher.fetch(f"http://{registry.server}/v2/a/blobs/x", largest=10)
        registry.blobs_elsewhere = f"http://{registry.server}/v2/a/blobs"
        with pytest.raises(RegistryError, match="without end"):
            await fetcher.fetch(f"http://{registry.server}/v2/a/blobs/x", largest=10)


async def test_credentials_go_to_the_first_host_only() -> None:
    async with (
        FakeRegistry().serving() as registry,
        FakeRegistry().serving() as elsewhere,
        Fetcher(plain_hosts={registry.server, elsewhere.server}) as fetcher,
    ):
        registry.blobs_elsewhere = f"http://{elsewhere.server}/cdn"
        await fetcher.fetch(
            f"http://{registry.server}/v2/a/blobs/x", largest=10, headers={"Authorization": "Bearer hush"}
        )
        assert registry.authorizations == ["Bearer hush"]
        assert elsewhere.authorizations == [""]


async def test_tls_is_verified(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "tls")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with FakeRegistry().serving(tls=tls) as registry:
        url = f"https://{registry.server}/"
        async with Fetcher(plain_hosts={registry.server}) as fetcher:
            with pytest.raises(RegistryError, match="cannot be asked"):
                await fetcher.fetch(url, largest=10)
        async with Fetcher(plain_hosts={registry.server}, tls=trusting) as fetcher:
            assert (await fetcher.fetch(url, largest=10)).status == 404
