"""Where the API server is found, how credentials are kept fresh, and what is said of a bad configuration."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from crikpy import errors
from crikpy.kube.client import KubeClient
from crikpy.kube.connecting import connect
from crikpy.kube.resources import PODS
from crikpy.settings import KubeSettings
from tests.fakes.certificates import make_certificate
from tests.fakes.kube import FakeKube


async def ask(settings: KubeSettings, environ: dict[str, str], account: Path = Path("/nonexistent")) -> str:
    """List pods and return the default namespace."""
    connection = await connect(settings, environ, account)
    async with KubeClient(connection, settings) as api:
        await api.list(PODS)
        return api.default_namespace


def write_config(path: Path, server: str, user: Any = None, **context: str) -> Path:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", **context}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(config))
    return path


class Account:
    """A pod's service account, and the variables of its containers."""

    def __init__(self, path: Path, kube: FakeKube, certificate: Path) -> None:
        self.path = path
        path.mkdir()
        (path / "ca.crt").write_text(certificate.read_text())
        (path / "namespace").write_text("of-the-pod\n")
        host, port = kube.endpoint.removeprefix("https://").split(":")
        self.environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}

    def give(self, token: str) -> None:
        (self.path / "token").write_text(token)


@pytest.fixture
async def account(tmp_path: Path, kube_tls: tuple[FakeKube, Path]) -> Account:
    kube, certificate = kube_tls
    account = Account(tmp_path / "account", kube, certificate)
    account.give("first")
    kube.tokens = {"first"}
    return account


@pytest.fixture
async def kube_tls(tmp_path: Path) -> AsyncIterator[tuple[FakeKube, Path]]:
    certificate = make_certificate(tmp_path / "server.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with FakeKube().serving(tls=tls) as kube:
        yield kube, certificate


async def test_a_pod_uses_its_service_account(account: Account) -> None:
    assert await ask(KubeSettings(), account.environ, account.path) == "of-the-pod"


async def test_a_renewed_token_of_a_service_account_is_read_again(
    account: Account, kube_tls: tuple[FakeKube, Path]
) -> None:
    kube, _ = kube_tls
    connection = await connect(KubeSettings(), account.environ, account.path)
    async with KubeClient(connection, KubeSettings()) as api:
        await api.list(PODS)
        account.give("second")
        kube.tokens = {"second"}
        await api.list(PODS)
        account.give("third")
        kube.tokens = {"third"}
        await api.list(PODS)


async def test_a_token_that_cannot_be_read_again_is_used_on(
    account: Account, kube_tls: tuple[FakeKube, Path]
) -> None:
    kube, _ = kube_tls
    connection = await connect(KubeSettings(), account.environ, account.path)
    async with KubeClient(connection, KubeSettings()) as api:
        (account.path / "token").unlink()
        kube.tokens = {"other"}
        with pytest.raises(errors.KubeForbiddenError, match="credentials"):
            await api.list(PODS)
        kube.tokens = {"first"}
        await api.list(PODS)
        account.give("second")
        kube.tokens = {"second"}
        await api.list(PODS)


async def test_a_kubeconfig_that_was_chosen_goes_before_the_service_account(
    account: Account, kube: FakeKube, tmp_path: Path
) -> None:
    path = write_config(tmp_path / "config", kube.endpoint, namespace="chosen")
    assert await ask(KubeSettings(kubeconfig=str(path)), account.environ, account.path) == "chosen"
    assert kube.seen("list")


async def test_a_server_with_another_certificate_is_not_trusted(
    account: Account, kube_tls: tuple[FakeKube, Path], tmp_path: Path
) -> None:
    (account.path / "ca.crt").write_text(make_certificate(tmp_path / "other.pem").read_text())
    with pytest.raises(errors.KubeUnavailableError, match="certificate"):
        await ask(KubeSettings(), account.environ, account.path)
    assert kube_tls[0].requests == []


async def test_the_environment_names_a_kubeconfig(kube: FakeKube, tmp_path: Path) -> None:
    path = write_config(tmp_path / "config", kube.endpoint)
    assert await ask(KubeSettings(), {"KUBECONFIG": str(path)}) == "default"
    assert await ask(KubeSettings(), {"KUBECONFIG": f"/nonexistent:{path}"}) == "default"
    (tmp_path / ".kube").mkdir()
    path.rename(tmp_path / ".kube/config")
    assert await ask(KubeSettings(), {"HOME": str(tmp_path)}) == "default"


@pytest.mark.parametrize("expires", [False, True])
async def test_a_credential_plugin_is_run_again_when_its_token_is_refused(
    kube: FakeKube, tmp_path: Path, expires: bool
) -> None:
    plugin, word, reply = tmp_path / "plugin", tmp_path / "word", tmp_path / "reply"
    status = {"token": "WORD"} | ({"expirationTimestamp": "2020-01-01T00:00:00Z"} if expires else {})
    version = "client.authentication.k8s.io/v1"
    reply.write_text(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))
    plugin.write_text(f'#!/bin/sh\nexec sed "s/WORD/$(cat {word})/" {reply}\n')
    plugin.chmod(0o755)
    word.write_text("one\n")
    user = {"exec": {"apiVersion": version, "command": str(plugin)}}
    path = write_config(tmp_path / "config", kube.endpoint, user)
    kube.tokens = {"one"}
    async with await KubeClient.connect(KubeSettings(kubeconfig=str(path))) as api:
        await api.list(PODS)
        word.write_text("two\n")
        kube.tokens = {"two"}
        await api.list(PODS)


_BAD: dict[str, Callable[[Path], object]] = {
    "no such file": lambda path: None,
    "not YAML": lambda path: path.write_text("{:"),
    "a text": lambda path: path.write_text("hello"),
    "empty": lambda path: path.write_text(""),
    "no context": lambda path: path.write_text('{"contexts": [], "clusters": [], "users": []}'),
    "no such context": lambda path: write_config(path, "http://x").write_text(
        path.read_text().replace('"current-context": "x"', '"current-context": "y"')
    ),
    "no such certificate": lambda path: write_config(path, "https://x", {"client-certificate": "/nonexistent"}),
    "no such plugin": lambda path: write_config(
        path, "https://x", {"exec": {"apiVersion": "v1", "command": "/nonexistent"}}
    ),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("fault", _BAD)
async def test_a_bad_kubeconfig_is_named_with_a_remedy(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "config"
    _BAD[fault](path)
    with pytest.raises(errors.SettingsError, match=str(path)) as caught:
        await KubeClient.connect(KubeSettings(kubeconfig=str(path)))
    assert caught.value.remedy


async def test_no_configuration_at_all_is_named_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(errors.SettingsError, match="no kubeconfig") as caught:
        await connect(KubeSettings(), {"HOME": str(tmp_path)}, tmp_path)
    assert "CRIKPY_KUBE_KUBECONFIG" in caught.value.remedy


async def test_credentials_are_in_no_message(kube: FakeKube, tmp_path: Path) -> None:
    kube.tokens = {"another"}
    path = write_config(tmp_path / "config", kube.endpoint, {"token": "s3cr3t"})
    with pytest.raises(errors.KubeForbiddenError) as caught:
        await ask(KubeSettings(kubeconfig=str(path)), {})
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.remedy


def test_the_library_is_not_imported_before_it_is_needed() -> None:
    program = (
        "import sys, crikpy.kube.client, crikpy.kube.watching, crikpy.kube.leases, crikpy.kube.events;"
        "sys.exit('kubernetes' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
