"""The status page over HTTP: GET shows, POST only begins and ends a browser's session; the cluster stays as it is.

Every answer forbids to be kept, framed, or to load or send anything from or to elsewhere. Who looks is judged each
time; only the style sheet, the script and the icon, which say nothing, are anybody's.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, urlencode

from crikpy.aio.serving import Request, Response, Route
from crikpy.errors import KubeError
from crikpy.kube.api import KubeApi
from crikpy.kube.sessions import Sessions
from crikpy.page.rendering import STATIC, read_static, render_login, render_page, render_refusal
from crikpy.page.views import Look, Views
from crikpy.page.visitors import Visitors

_log = logging.getLogger(__name__)

COOKIE: Final = "__Host-crikpy"
"""By its name browsers keep it to this very host and to HTTPS (RFC 6265bis, 4.1.3)."""

_HTML: Final = "text/html; charset=utf-8"
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="crikpy"'}
_LONGEST_COOKIE: Final = 4000
"""Characters; browsers keep 4096 bytes with the name."""

_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_REFRESH_S: Final = 5


class StatusPage:
    """Answers what browsers ask."""

    def __init__(self, api: KubeApi, look: Look, sessions: Sessions, *, refresh_s: int = _REFRESH_S) -> None:
        self._visitors = Visitors(api)
        self._views = Views(look)
        self._sessions = sessions
        self._refresh_s = refresh_s

    def routes(self) -> dict[str, Route]:
        """Return the routes, for crikpy.aio.serving.Server."""
        static = {f"GET /{name}": _static(name) for name in STATIC}
        return {"GET /": self._show, "POST /login": self._log_in, "POST /logout": self._log_out, **static}

    async def _show(self, request: Request) -> Response:
        namespace = request.query.get("namespace", "").strip()
        if namespace and not _NAMESPACE.fullmatch(namespace):
            return _refuse(400, "No such namespace", f"{namespace!r} cannot be the name of a namespace.")
        token, by_cookie = self._token_of(request)
        if not token:
            return _ask(namespace)
        try:
            visitor = await self._visitors.judge(token, namespace)
        except KubeError as fault:
            return _unjudged(fault)
        if visitor is None:
            return _ask(namespace, "The API server does not accept this token, or no longer.")
        if not visitor.allowed:
            return _forbid(visitor.name, namespace)
        view = await self._views.get(namespace)
        if view is None:
            return _refuse(
                503, "Not yet", "The controller has not seen the whole cluster yet. Try again in a moment."
            )
        page = render_page(view, person=visitor.name, may_leave=by_cookie, refresh_s=self._refresh_s)
        return _html(200, page)

    async def _log_in(self, request: Request) -> Response:
        if _is_from_elsewhere(request):
            return _refuse(403, "Not from there", "Another site has sent this form.")
        form = _form_of(request)
        token, namespace = form.get("token", "").strip(), form.get("namespace", "").strip()
        if namespace and not _NAMESPACE.fullmatch(namespace):
            namespace = ""
        try:
            visitor = await self._visitors.judge(token, namespace)
        except KubeError as fault:
            return _unjudged(fault)
        if visitor is None:
            return _ask(namespace, "The API server does not accept this token.")
        sealed = self._sessions.seal(token)
        if not 0 < len(sealed) <= _LONGEST_COOKIE:
            return _ask(namespace, "This token is too long for a cookie. Take one of a service account.")
        query = f"?{urlencode({'namespace': namespace})}" if namespace else ""
        return _go(f"./{query}", cookie=f"{COOKIE}={sealed}; Path=/; Secure; HttpOnly; SameSite=Strict")

    async def _log_out(self, request: Request) -> Response:
        if _is_from_elsewhere(request):
            return _refuse(403, "Not from there", "Another site has sent this form.")
        return _go("./", cookie=f"{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")

    def _token_of(self, request: Request) -> tuple[str, bool]:
        """Return the token that a request bears, if any, and whether it is a session's."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return token.strip(), False
        sealed = _cookie_of(request.headers.get("cookie", ""))
        return (self._sessions.open(sealed) or "" if sealed else ""), True


def _cookie_of(header: str) -> str:
    """Return our cookie; others, which may be of any form on a host that is shared, do not matter."""
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _static(name: str) -> Route:
    body = read_static(name)

    async def answer(_: Request) -> Response:
        return Response(body=body, content_type=STATIC[name], headers=_HEADERS)

    return answer


def _is_from_elsewhere(request: Request) -> bool:
    """Say whether a browser tells that a page of another site has sent a form (Fetch Metadata)."""
    return request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


def _form_of(request: Request) -> Mapping[str, str]:
    try:
        fields = parse_qs(request.body.decode("ascii"), max_num_fields=10)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def _html(status: int, body: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status=status, body=body, content_type=_HTML, headers={**_HEADERS, **(headers or {})})


def _go(where: str, *, cookie: str) -> Response:
    return _html(303, "", {"Location": where, "Set-Cookie": cookie})


def _ask(namespace: str, fault: str = "") -> Response:
    return _html(401, render_login(namespace=namespace, fault=fault), _CHALLENGE)


def _refuse(status: int, title: str, message: str) -> Response:
    return _html(status, render_refusal(title=title, message=message))


def _forbid(person: str, namespace: str) -> Response:
    where = f"in namespace {namespace}" if namespace else "in all namespaces; name one in which you may"
    message = f"You may not list Checkpoint objects, pods and events {where}."
    return _html(
        403,
        render_refusal(title="Not allowed", message=message, person=person, namespace=namespace, asks=True),
    )


def _unjudged(fault: KubeError) -> Response:
    _log.warning("nobody can be let in to the status page for now: %s", fault)
    return _refuse(503, "Nobody can be asked", "The API server cannot say now who you are. Try again in a moment.")
