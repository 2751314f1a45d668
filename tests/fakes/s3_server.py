"""A real S3 server for tests and the demo: SeaweedFS as one process, gone when its context ends.

It checks signatures and keeps conditional writes, which is what crikpy rests on. Usable without pytest.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from crikpy.aio.children import Child
from crikpy.aio.clock import Deadline

_START_S = 60.0
_PORTS = ("master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc", "s3", "s3_grpc")
REGION = "us-east-1"

_SOCKETS = Path("/tmp")
"""Where SeaweedFS makes a socket for most of its ports, whatever it is told, and leaves it when it is killed."""


class S3Server:
    """SeaweedFS with two identities: one that may do everything and one that may only read.

    Attributes:
        endpoint: URL of the server.
        access_key: key id of the identity that may do everything.
        secret_key: its secret.
        reader_access_key: key id of the identity that may only read and list.
        reader_secret_key: its secret.
    """

    def __init__(self, folder: Path, *, address: str = "127.0.0.1") -> None:
        """Take an empty folder, in which the server keeps everything, its log included, and where to listen."""
        self._folder = folder
        self._address = address
        self._ports = _free_ports(address)
        self._child: Child | None = None
        self.endpoint = f"http://{address}:{self._ports['s3']}"
        self.access_key, self.secret_key = _new_key()
        self.reader_access_key, self.reader_secret_key = _new_key()

    def __enter__(self) -> S3Server:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "identities.json"
        config.write_text(json.dumps({"identities": self._identities()}))
        config.chmod(0o600)
        log = os.open(self._folder / "weed.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._child = Child(self._argv(config), stdout=log, stderr=log, env=_quiet_environment(self._folder))
        finally:
            os.close(log)
        try:
            self._await_ready(Deadline.after(_START_S))
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The server's PID."""
        assert self._child is not None, "the server was not started"
        return self._child.pid

    def kill(self) -> None:
        """End the server at once, as a crash would; harmless when it has ended."""
        if self._child is not None:
            self._child.kill_tree()
            for port in self._ports.values():
                for left in _SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink(missing_ok=True)

    def restart(self) -> None:
        """Start it again after `kill`, with all that it had written down."""
        self.__enter__()

    def create_bucket(self, name: str) -> None:
        """Make a bucket; fine when it is there."""
        with (
            contextlib.closing(self._client()) as client,
            contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou),
        ):
            client.create_bucket(Bucket=name)

    def remove_bucket(self, name: str) -> None:
        """Remove a bucket with all that is in it, and give its room on the disk back."""
        with contextlib.closing(self._client()) as client:
            client.delete_bucket(Bucket=name)

    def environment(self) -> dict[str, str]:
        """Return the variables with which crikpy and boto3 find this server, and nothing but it."""
        return {
            "CRIKPY_STORE_ENDPOINT": self.endpoint,
            "CRIKPY_STORE_REGION": REGION,
            "CRIKPY_STORE_PATH_STYLE": "true",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def log_tail(self, lines: int = 20) -> str:
        """Return the end of the server's log."""
        return "\n".join((self._folder / "weed.log").read_text(errors="replace").splitlines()[-lines:])

    def _identities(self) -> list[dict[str, object]]:
        return [
            _identity("writer", self.access_key, self.secret_key, ["Admin", "Read", "List", "Write"]),
            _identity("reader", self.reader_access_key, self.reader_secret_key, ["Read", "List"]),
        ]

    def _argv(self, config: Path) -> list[str]:
        ports = self._ports
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        return [
            *_dying_with_us(),
            _program(),
            "server",
            f"-dir={data}",
            f"-ip={self._address}",
            f"-ip.bind={self._address}",
            f"-master.port={ports['master']}",
            f"-master.port.grpc={ports['master_grpc']}",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=1024",
            f"-volume.port={ports['volume']}",
            f"-volume.port.grpc={ports['volume_grpc']}",
            "-volume.max=100",
            "-volume.minFreeSpacePercent=1",
            "-filer",
            f"-filer.port={ports['filer']}",
            f"-filer.port.grpc={ports['filer_grpc']}",
            "-filer.localSocket=",
            "-s3",
            f"-s3.port={ports['s3']}",
            f"-s3.port.grpc={ports['s3_grpc']}",
            f"-s3.config={config}",
            "-s3.autoCreateBucket=false",
            "-s3.allowEmptyFolder=false",
            "-s3.iam=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]

    def _await_ready(self, deadline: Deadline) -> None:
        """Wait until an object can be written: the S3 part answers long before the volumes do."""
        while True:
            try:
                self.create_bucket("ready")
                with contextlib.closing(self._client()) as client:
                    client.put_object(Bucket="ready", Key="ready", Body=b"ready")
                return
            except (ClientError, BotoCoreError) as fault:
                assert self._child is not None
                if self._child.poll() is not None or deadline.expired():
                    raise RuntimeError(f"the S3 server did not start: {fault}\n{self.log_tail()}") from fault
            time.sleep(0.05)

    def _client(self) -> Any:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1, "mode": "standard"},
                connect_timeout=2,
                read_timeout=10,
            ),
        )


def _dying_with_us() -> list[str]:
    """Return a command to go in front of the server's, so that it ends even when we are killed outright.

    The kernel takes the thread that starts it for its parent: start the server from one that stays.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _program() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise RuntimeError("SeaweedFS is missing: install the test dependencies")
    return found


def _identity(name: str, access_key: str, secret_key: str, actions: list[str]) -> dict[str, object]:
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    return {"name": name, "credentials": credentials, "actions": actions}


def _new_key() -> tuple[str, str]:
    return f"AK{secrets.token_hex(9).upper()}", secrets.token_urlsafe(30)


def _quiet_environment(folder: Path) -> dict[str, str]:
    """Return an environment in which no configuration of this machine is found and few volumes are made."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
        "GOMEMLIMIT": "512MiB",
    }


def _free_ports(address: str) -> dict[str, int]:
    """Return a port for each listener; all are held until the last is chosen, so that none comes twice."""
    with contextlib.ExitStack() as stack:
        ports = {}
        for name in _PORTS:
            listener = stack.enter_context(socket.socket())
            listener.bind((address, 0))
            ports[name] = listener.getsockname()[1]
        return ports
