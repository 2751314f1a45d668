"""The webhook: an HTTPS server that takes reviews and answers with verdicts.

Who decides is crikpy.controller.admission, who keeps the certificate crikpy.controller.certifying. A request that
is no review is answered with 400, which the API server takes for a failure of the webhook and, as configured
(failurePolicy: Ignore), for a yes.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from crikpy.aio.serving import Request, Response, Route, Server
from crikpy.controller.admission import Admission
from crikpy.controller.certifying import Certifier
from crikpy.controller.images import RegistryLookup
from crikpy.controller.placing import Placer
from crikpy.controller.reviews import Review, Verdict, parse_review, render_answer
from crikpy.controller.sighting import Sight
from crikpy.errors import UsageError
from crikpy.kube.api import KubeApi
from crikpy.metrics import Metrics
from crikpy.registry.entrypoints import Registries
from crikpy.settings import ControllerSettings

MUTATE_PODS = "/mutate-pods"
VALIDATE_TEMPLATES = "/validate-templates"
"""Paths of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook that listens.

    Attributes:
        port: where.
        certifier: keeps its certificate; nobody can connect before its `follow` has found one.
    """

    port: int
    certifier: Certifier


@contextlib.asynccontextmanager
async def listening(
    api: KubeApi, settings: ControllerSettings, sight: Sight, *, metrics: Metrics
) -> AsyncIterator[Webhook]:
    """Answer reviews until the context ends.

    Whoever calls runs the certifier's `follow` on every replica and its `lead` on the leader, and tells its
    `complaint` on /readyz.

    Raises:
        UsageError: the address and port cannot be had.
    """
    certifier = Certifier(api, settings, metrics=metrics)
    async with Registries() as registries:
        lookup, placer = RegistryLookup(api, registries), Placer(sight, metrics)
        routes = review_routes(Admission(lookup, placer, settings, metrics=metrics))
        server = Server(routes, address=settings.address, port=settings.webhook_port, tls=certifier.tls)
        async with server:
            yield Webhook(port=server.port, certifier=certifier)


def review_routes(admission: Admission) -> dict[str, Route]:
    """Return the routes of the webhook, for crikpy.aio.serving.Server."""
    return {
        f"POST {MUTATE_PODS}": _route(admission.review_pod),
        f"POST {VALIDATE_TEMPLATES}": _route(admission.review_template),
    }


def _route(judge: Callable[[Review], Awaitable[Verdict]]) -> Route:
    async def answer(request: Request) -> Response:
        try:
            review = parse_review(request.body)
        except UsageError as fault:
            return Response(status=400, body=f"{fault}\n")
        return Response(body=render_answer(review, await judge(review)), content_type="application/json")

    return answer
