"""An API server for tests: real sockets, the real one's rules for objects and watches, trouble on demand.

    async with FakeKube().serving() as kube:
        kube.put(PODS, {"metadata": {"name": "p", "namespace": "ns"}, "spec": {"nodeName": "n1"}})
        async with await KubeClient.connect(kube.settings(tmp_path)) as api:
            ...
        assert kube.seen("create", "events")

What the test does by its own hand (as kubelet, scheduler, garbage collector): `put`, `update` (a merge patch,
status included), `get`, `all`, `remove`. How it makes trouble: `trouble`, `heal`, `block_evictions`, `expire`,
`bookmark`, `close_watches`, `drop_watches`, `fail_watches`, `stall_watches`, and `stop`/`start`, between which the
server is away but remembers everything. What it saw: `requests`, `seen`, `watchers`; `until` waits.

Its rules are in kube_objects (objects) and kube_rules (selectors, patches). Kinds: the table of
crikpy.kube.resources, less what is in `unknown`. Pods that are bound to a node stay, terminating, until the test
removes them (`objects.slow_pods`). Namespaces need not exist; contents, permissions and quotas are not checked;
nothing controls anything. It is also a program, for processes of their own and for network namespaces:

    python -m tests.fakes.kube serve --port 0 --kubeconfig PATH --control SOCKET
    python -m tests.fakes.kube tell SOCKET '{"do": "trouble", "kind": "503"}'
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from crikpy.kube.resources import Resource
from crikpy.settings import KubeSettings
from tests.fakes import kube_program
from tests.fakes.kube_objects import KINDS, Objects
from tests.fakes.kube_people import REVIEWS, Somebody, review
from tests.fakes.kube_requests import Request, Trouble, answer, parse
from tests.fakes.kube_rules import Json, RefusedError, merged
from tests.fakes.kube_watches import Watches

PATIENCE_S = 20.0


class FakeKube:
    """One API server.

    Attributes:
        objects: what it keeps.
        requests: what it was asked, oldest first, watches included.
        unknown: plurals of kinds that it does not know, as before a CRD is installed.
        tokens: bearer tokens that it accepts; empty asks for none.
        people: who bears which token, for whoever asks about others than himself.
        behind: answers by path, for what is no object: `/version`, and what lies behind proxies.
        stalling: set while a request is held back.
    """

    def __init__(self) -> None:
        self.objects = Objects()
        self.watches = Watches(self.objects)
        self.requests: list[Request] = []
        self.unknown: set[str] = set()
        self.tokens: set[str] = set()
        self.people: dict[str, Somebody] = {}
        self.behind: dict[str, str] = {}
        self.stalling = asyncio.Event()
        self._trouble: list[Trouble] = []
        self._blocked = 0
        self._healed = asyncio.Event()
        self._runner: web.ServerRunner | None = None
        self._transports: set[asyncio.Transport] = set()
        self._tls: ssl.SSLContext | None = None
        self._bound = ("127.0.0.1", 0)

    @contextlib.asynccontextmanager
    async def serving(
        self, *, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[FakeKube]:
        """Serve until the context ends; port 0 takes a free one."""
        self._bound, self._tls = (address, port), tls
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def start(self) -> None:
        """Listen, on the same port as before."""
        self._runner = web.ServerRunner(
            web.Server(self._answer, access_log=None, handler_cancellation=True), shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._bound, ssl_context=self._tls, reuse_address=True).start()
        self._bound = (self._bound[0], self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Go away, with every connection torn; objects and history stay."""
        runner, self._runner = self._runner, None
        self.heal()
        for transport in list(self._transports):
            transport.abort()
        if runner is not None:
            await runner.cleanup()

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        return f"{'https' if self._tls else 'http'}://{self._bound[0]}:{self._bound[1]}"

    def kubeconfig(self, folder: Path, *, namespace: str = "default", endpoint: str = "") -> Path:
        """Write a kubeconfig for this server, perhaps by another way to it, and return its path."""
        path = folder / "kubeconfig"
        user = {"token": min(self.tokens)} if self.tokens else {}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": endpoint or self.endpoint}}],
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "user", "namespace": namespace}}],
            "current-context": "fake",
        }
        path.write_text(json.dumps(config))
        return path

    def settings(self, folder: Path, **values: Any) -> KubeSettings:
        """Return settings that reach this server, with short waits.

        A kubeconfig is written into the folder unless the values name one.
        """
        quick: dict[str, Any] = {"request_timeout_s": 2.0, "watch_silence_s": 5.0, "lease_s": 2.0}
        if "kubeconfig" not in values:
            quick["kubeconfig"] = str(self.kubeconfig(folder))
        return KubeSettings(**(quick | values))

    # What the test does by its own hand.

    def put(self, resource: Resource, body: Json) -> Json:
        """Make or overwrite an object, status included."""
        return self.objects.put(resource, body)

    def update(self, resource: Resource, name: str, change: Json, *, namespace: str = "") -> Json:
        """Change an object by a merge patch, status included; None takes a field away."""
        before = self.objects.get(resource, name, namespace or "default")
        return self.objects.put(resource, merged(before, change, by_key=False))

    def get(self, resource: Resource, name: str, *, namespace: str = "") -> Json | None:
        """Return an object, not to be changed, or None."""
        try:
            return self.objects.get(resource, name, namespace or "default")
        except RefusedError:
            return None

    def all(self, resource: Resource) -> list[Json]:
        """Return all objects of a kind, by namespace and name."""
        return list(self.objects.all(resource).values())

    def remove(self, resource: Resource, name: str, *, namespace: str = "") -> None:
        """Take an object away at once."""
        self.objects.remove(resource, name, namespace or "default")

    # How it misbehaves.

    def trouble(
        self,
        kind: str,
        *,
        verb: str = "",
        plural: str = "",
        times: int = -1,
        after: int = 0,
        retry_after: int | None = None,
    ) -> None:
        """Answer requests with `stall`, `reset`, `lose` (carried out, answer lost) or a status such as `503`.

        Args:
            kind: what happens.
            verb: only requests of get, list, watch, create, replace, patch, delete.
            plural: only requests for this kind.
            times: how many requests; -1 is all until `heal`.
            after: how many of them go well before.
            retry_after: seconds, for the header of that name.
        """
        self._trouble.append(
            Trouble(kind=kind, verb=verb, plural=plural, times=times, after=after, retry_after=retry_after)
        )

    def heal(self) -> None:
        """End all trouble; requests that stall are answered, watches that stall go on."""
        self._trouble.clear()
        self._blocked = 0
        self.stalling.clear()
        self._healed.set()
        self._healed = asyncio.Event()
        self.watches.stalled.clear()
        self.watches.closing = False

    def block_evictions(self, times: int = -1) -> None:
        """Let a budget of disruptions forbid the next evictions; -1 forbids all until `heal`."""
        self._blocked = times

    def expire(self) -> None:
        """Forget the history: a watch from before now is answered 410, and so is the rest of a paged list."""
        self.objects.compact()

    def bookmark(self) -> None:
        """Send a bookmark to every watcher that asked for them."""
        self.watches.order("bookmark")

    def close_watches(self, plural: str = "", *, always: bool = False) -> None:
        """End watches in good order, as a server does after minutes; always: new ones too, until `heal`."""
        self.watches.closing |= always
        self.watches.order("close", plural)

    def drop_watches(self, plural: str = "", *, politely: bool = False) -> None:
        """Break watches off in the middle of an event: connections torn, or politely, ended in good order."""
        self.watches.order("half" if politely else "drop", plural)

    def fail_watches(self, code: int, plural: str = "") -> None:
        """Send an ERROR event with a status, such as 410, and end."""
        self.watches.order(f"error {code}", plural)

    def stall_watches(self, plural: str = "") -> None:
        """Send nothing on watches, new ones too, while their connections stay; until `heal`."""
        self.watches.stalled.add(plural)

    # What it saw.

    def seen(self, verb: str = "", plural: str = "", *, subresource: str | None = None) -> list[Request]:
        """Return the requests so far of a verb and kind."""
        return [
            request
            for request in self.requests
            if (not verb or request.verb == verb)
            and (not plural or request.plural == plural)
            and (subresource is None or request.subresource == subresource)
        ]

    def watchers(self, plural: str) -> int:
        """Return how many watches of a kind are open."""
        return self.watches.count(plural)

    @staticmethod
    async def until(holds: Callable[[], object]) -> None:
        """Wait until something holds; TimeoutError when it does not come true."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110 - objects and counters tell nobody that they changed
                await asyncio.sleep(0.005)

    # The server.

    async def _answer(self, http: web.BaseRequest) -> web.StreamResponse:
        transport = http.transport
        if not isinstance(transport, asyncio.Transport):
            return web.Response(status=500)
        self._transports.add(transport)
        try:
            return await self._obey(http, transport)
        except RefusedError as refusal:
            return web.json_response(refusal.status(), status=refusal.code)
        finally:
            self._transports.discard(transport)

    async def _obey(self, http: web.BaseRequest, transport: asyncio.Transport) -> web.StreamResponse:
        if http.path in ("/readyz", "/livez", "/healthz"):
            return web.Response(text="ok")
        if self.tokens and http.headers.get("Authorization", "").lower() not in {
            f"bearer {token}".lower() for token in self.tokens
        }:
            raise RefusedError(401, "Unauthorized", "Unauthorized")
        if http.path in self.behind:  # /version, and what lies behind proxies of nodes and pods
            return web.Response(text=self.behind[http.path], content_type="text/plain")
        request = await parse(http, [kind for kind in KINDS if kind.plural not in self.unknown])
        self.requests.append(request)
        if trouble := next((trouble for trouble in self._trouble if trouble.meets(request)), None):
            if trouble.kind == "stall":
                self.stalling.set()
                await self._healed.wait()
            elif trouble.kind in ("reset", "lose"):
                if trouble.kind == "lose":
                    answer(request, self.objects)
                transport.abort()
                return web.Response(status=500)
            else:
                return trouble.response()
        if request.verb == "watch":
            return await self.watches.serve(http, request, transport)
        if request.subresource == "eviction" and self._blocked:
            self._blocked -= 1
            raise _refuse_eviction(request.name)
        if request.plural in REVIEWS:
            return web.json_response(review(request, self.people), status=201)
        code, body = answer(request, self.objects)
        return web.json_response(body, status=code)


def _refuse_eviction(pod: str) -> RefusedError:
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    cause = {"reason": "DisruptionBudget", "message": f"The disruption budget of {pod} needs 1 healthy pods"}
    return RefusedError(429, "TooManyRequests", message, details={"causes": [cause]})


async def _serve(arguments: argparse.Namespace) -> None:
    async with FakeKube().serving(address=arguments.address, port=arguments.port) as kube:
        if arguments.kubeconfig is not None:
            kube.kubeconfig(arguments.kubeconfig.parent).rename(arguments.kubeconfig)
        await kube_program.obey(kube, arguments.control)


if __name__ == "__main__":
    sys.exit(kube_program.main(sys.argv[1:], _serve))
