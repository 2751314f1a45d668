"""A Kubernetes API server and its etcd for a benchmark: on loopback, of this process, gone when it ends.

There is nothing else of a cluster: no scheduler, no controllers, no kubelets. Objects stay as they are put.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy.aio.children import Child

_STARTS_S = 90.0
_KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: bench
contexts: [{{name: bench, context: {{cluster: bench, user: bench}}}}]
clusters: [{{name: bench, cluster: {{server: "https://127.0.0.1:{port}", certificate-authority: {ca}}}}}]
users: [{{name: bench, user: {{token: {token}}}}}]
"""


@dataclass(frozen=True)
class ApiServer:
    """An API server that runs.

    Attributes:
        kubeconfig: an administrator's.
        pid: of kube-apiserver.
    """

    kubeconfig: Path
    pid: int


@contextlib.contextmanager
def api_server(folder: Path) -> Iterator[ApiServer]:
    """Run one with an empty store, whose state and logs are below an empty folder."""
    etcd_folder, programs = _programs()
    etcd_port, peer_port, port = free_port(), free_port(), free_port()
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},bench,bench,system:masters\n")
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "accounts.key").touch(mode=0o600)
    (folder / "accounts.key").write_bytes(private)
    certificates = folder / "certificates"
    etcd = [
        str(etcd_folder / "etcd"),
        f"--data-dir={folder / 'etcd'}",
        "--unsafe-no-fsync",
        "--quota-backend-bytes=8589934592",
        f"--listen-client-urls=http://127.0.0.1:{etcd_port}",
        f"--advertise-client-urls=http://127.0.0.1:{etcd_port}",
        f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
        f"--initial-cluster=default=http://127.0.0.1:{peer_port}",
    ]
    apiserver = [
        str(programs / "kube-apiserver"),
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={certificates}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
        "--authorization-mode=RBAC",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'accounts.key'}",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_logged(etcd, folder / "etcd.log"))
        child = stack.enter_context(_logged(apiserver, folder / "apiserver.log"))
        ca = certificates / "apiserver.crt"
        _await_ready(f"https://127.0.0.1:{port}/readyz", ca, token, folder / "apiserver.log")
        kubeconfig = folder / "kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(_KUBECONFIG.format(port=port, ca=ca, token=token))
        yield ApiServer(kubeconfig, child.pid)


def free_port() -> int:
    """Return a port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _programs() -> tuple[Path, Path]:
    """Return the folders of etcd and of Kubernetes' programs, fetched and built if need be."""
    cluster = Path(__file__).resolve().parents[1] / "cluster"
    lines = subprocess.run([cluster, "programs"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return Path(lines[0]), Path(lines[1])


@contextlib.contextmanager
def _logged(argv: list[str], log: Path) -> Iterator[Child]:
    with log.open("wb") as file, Child(argv, stdout=file.fileno(), stderr=file.fileno()) as child:
        yield child


def _await_ready(url: str, ca: Path, token: str, log: Path) -> None:
    deadline = time.monotonic() + _STARTS_S
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            trust = ssl.create_default_context(cafile=str(ca))
            with urllib.request.urlopen(request, context=trust, timeout=2) as answer:
                if answer.status == 200:
                    return
        time.sleep(0.2)
    raise SystemExit(f"the API server does not come up:\n{log.read_text()[-2000:]}")
