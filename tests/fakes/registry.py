"""An image registry for tests: the distribution API on a real socket, with token service and trouble on demand.

It holds images that exist only as manifests and configurations, asks for credentials as registries do (none,
basic, token service with passwords or refresh tokens), and keeps what it was asked for a test to look at.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import ssl
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"

USER = "puller"
PASSWORD = "correct horse"
REFRESH_TOKEN = "refresh-me"


class FakeRegistry:
    """One registry.

    Attributes:
        server: host and port once it serves.
        auth: what it asks for: `none`, `basic` or `token`.
        asked: method and path of every request, in order.
        authorizations: the header Authorization of every request for a manifest or blob.
        overrides: what a path is answered with instead of the truth.
        blobs_elsewhere: beginning of the URL that requests for blobs are redirected to.
    """

    def __init__(self, *, auth: str = "none") -> None:
        self.server = ""
        self.auth = auth
        self.asked: list[str] = []
        self.authorizations: list[str] = []
        self.overrides: dict[str, web.Response] = {}
        self.blobs_elsewhere = ""
        self._scheme = "http"
        self._tokens: set[str] = set()
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[tuple[str, str], tuple[str, bytes]] = {}

    @contextlib.asynccontextmanager
    async def serving(self, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeRegistry]:
        """Serve on the loopback until the context ends."""
        runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
            self.server = f"127.0.0.1:{site.port}"
            self._scheme = "http" if tls is None else "https"
            yield self
        finally:
            await runner.cleanup()

    # What it holds.

    def push(
        self, repository: str, tag: str, *, entrypoint: list[str] | None = None, cmd: list[str] | None = None
    ) -> str:
        """Keep an image for one platform and return its digest."""
        config = {"architecture": "amd64", "os": "linux", "config": {"Entrypoint": entrypoint, "Cmd": cmd}}
        return self.push_config(repository, tag, json.dumps(config).encode())

    def push_config(self, repository: str, tag: str, config: bytes) -> str:
        """Keep an image whose configuration is any bytes, and return its digest."""
        digest = _digest(config)
        self._blobs[digest] = config
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {"digest": digest}, "layers": []}
        return self.push_manifest(repository, tag, manifest)

    def push_index(self, repository: str, tag: str, variants: dict[str, str]) -> str:
        """Keep an index of images, by `os/architecture`, and return its digest."""
        entries = []
        for platform, digest in variants.items():
            system, _, architecture = platform.partition("/")
            entries.append({"digest": digest, "platform": {"os": system, "architecture": architecture}})
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        return self.push_manifest(repository, tag, index, kind=INDEX)

    def push_manifest(self, repository: str, tag: str, manifest: Any, *, kind: str = MANIFEST) -> str:
        """Keep any manifest and return its digest."""
        body = json.dumps(manifest).encode()
        digest = _digest(body)
        for version in (tag, digest):
            self._manifests[repository, version] = kind, body
        return digest

    # The service.

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if request.path in self.overrides:
            return self.overrides[request.path]
        if request.path == "/token":
            return await self._give_token(request)
        repository, _, rest = request.path.removeprefix("/v2/").rpartition("/manifests/")
        if repository:
            return self._guard(request) or self._give_manifest(request, repository, rest)
        repository, _, digest = request.path.removeprefix("/v2/").rpartition("/blobs/")
        if repository and self.blobs_elsewhere:
            return self._guard(request) or web.Response(
                status=307, headers={"Location": f"{self.blobs_elsewhere}/{digest}"}
            )
        if repository or request.path.startswith("/cdn/"):
            return self._guard(request) or self._give_blob(digest)
        return web.Response(status=404)

    def _guard(self, request: web.BaseRequest) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        self.authorizations.append(given)
        if self.auth == "none" or request.path.startswith("/cdn/"):
            return None
        if self.auth == "basic":
            challenge, welcome = 'Basic realm="fake"', given == _basic(USER, PASSWORD)
        else:
            realm = f"{self._scheme}://{self.server}/token"
            challenge = f'Bearer realm="{realm}",service="fake",scope="repository:any:pull"'
            welcome = given.removeprefix("Bearer ") in self._tokens
        return None if welcome else web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async def _give_token(self, request: web.BaseRequest) -> web.Response:
        if request.method == "POST":
            form = await request.post()
            welcome = (form.get("grant_type"), form.get("refresh_token")) == ("refresh_token", REFRESH_TOKEN)
        else:
            welcome = request.headers.get("Authorization", "") == _basic(USER, PASSWORD)
            welcome = welcome and request.query.get("service") == "fake"
        if not welcome:
            return web.Response(status=401)
        token = secrets.token_urlsafe(16)
        self._tokens.add(token)
        return web.json_response({"access_token" if request.method == "POST" else "token": token})

    def _give_manifest(self, request: web.BaseRequest, repository: str, version: str) -> web.Response:
        if (repository, version) not in self._manifests:
            return web.Response(status=404)
        kind, body = self._manifests[repository, version]
        if kind not in request.headers.get("Accept", ""):
            return web.Response(status=406)
        return web.Response(body=body, content_type=kind)

    def _give_blob(self, digest: str) -> web.Response:
        digest = digest.removeprefix("/cdn/")
        return web.Response(body=self._blobs[digest]) if digest in self._blobs else web.Response(status=404)


def pull_secret(server: str, **entry: str) -> dict[str, Any]:
    """Return a raw Secret with credentials for a registry; by default those that it takes."""
    document = {"auths": {server: entry or {"username": USER, "password": PASSWORD}}}
    data = base64.b64encode(json.dumps(document).encode()).decode()
    return {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": data}}


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
