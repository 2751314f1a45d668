"""The page over real TLS: nobody looks without a verdict of the API server, and no answer is kept or framed."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie

import aiohttp
import pytest

from crikpy.kube.resources import NODES, SECRETS
from tests.fakes.kube import FakeKube
from tests.page.conftest import HALF, OPERATOR, RESEARCHER
from tests.page.serving import unverified


class Browser:
    """Asks, and keeps nothing but what it is told to."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def ask(
        self, where: str = "", *, method: str = "GET", form: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, str, aiohttp.ClientResponse]:
        """Return status, text and answer; names of headers are written with `_`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(
            method, self._url + where, headers=sent, data=form, allow_redirects=False
        ) as answer:
            return answer.status, await answer.text(), answer

    async def told(self, words: str, bearer: str) -> str:
        """Return the page once it says something."""
        async with asyncio.timeout(15):
            while True:
                status, text, _ = await self.ask(Authorization=bearer)
                assert status == 200
                if words in text:
                    return text
                await asyncio.sleep(0.05)

    async def log_in(self, token: str, **more: str) -> tuple[str, aiohttp.ClientResponse]:
        """Send the form; returns the header Cookie with which to go on."""
        status, _, answer = await self.ask("login", method="POST", form={"token": token, **more})
        assert status == 303
        cookie = SimpleCookie(answer.headers["Set-Cookie"])
        return "; ".join(f"{name}={morsel.value}" for name, morsel in cookie.items()), answer


@pytest.fixture
async def browser(url: str) -> AsyncIterator[Browser]:
    connector = aiohttp.TCPConnector(ssl=unverified())
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Browser(session, url)


async def test_who_bears_no_token_gets_the_form_and_nothing_else(browser: Browser, kube: FakeKube) -> None:
    for where in ("", "?namespace=research"):
        status, text, answer = await browser.ask(where)
        assert status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert 'name="token"' in text
        assert "resnet" not in text and "ip-10" not in text
    assert not kube.seen("create", "tokenreviews"), "nobody need be asked"


@pytest.mark.parametrize("token", ["wrong", "", "x" * 20000, OPERATOR + "x"])
async def test_a_token_that_the_api_server_does_not_know_lets_nobody_in(browser: Browser, token: str) -> None:
    status, text, _ = await browser.ask(Authorization=f"Bearer {token}"[:8000])
    assert status == 401 and "resnet" not in text
    status, text, answer = await browser.ask("login", method="POST", form={"token": token})
    assert status == 401 and "does not accept" in text
    assert "Set-Cookie" not in answer.headers


async def test_a_bearer_token_shows_the_page(browser: Browser) -> None:
    status, text, _ = await browser.ask(Authorization=f"Bearer {OPERATOR}")
    assert status == 200
    for word in ("ip-10-0-1-17", "resnet-0", "llm-tune-3", "render-9", "io_uring", "11.6 GiB", "operator"):
        assert word in text
    assert "Log out" not in text, "there is no session to end"


async def test_who_may_see_one_namespace_sees_that_one(browser: Browser) -> None:
    status, text, _ = await browser.ask(Authorization=f"Bearer {RESEARCHER}")
    assert status == 403 and "resnet" not in text and 'name="namespace"' in text
    status, text, _ = await browser.ask("?namespace=simulation", Authorization=f"Bearer {RESEARCHER}")
    assert status == 403 and "flow-12" not in text
    status, text, _ = await browser.ask("?namespace=research", Authorization=f"Bearer {RESEARCHER}")
    assert status == 200 and "resnet-0" in text
    assert "flow-12" not in text and "ip-10-0-3-8" not in text and "etl-1" not in text


async def test_who_may_not_list_all_that_the_page_tells_sees_nothing(browser: Browser) -> None:
    status, text, _ = await browser.ask("?namespace=research", Authorization=f"Bearer {HALF}")
    assert status == 403 and "resnet" not in text


async def test_a_login_becomes_a_session_that_is_of_use_here_alone(browser: Browser, kube: FakeKube) -> None:
    cookie, answer = await browser.log_in(RESEARCHER, namespace="research")
    assert answer.headers["Location"] == "./?namespace=research"
    told = answer.headers["Set-Cookie"]
    for word in ("__Host-", "Secure", "HttpOnly", "SameSite=Strict", "Path=/"):
        assert word in told
    assert RESEARCHER not in told and base64.b64encode(RESEARCHER.encode()).decode() not in told
    status, text, _ = await browser.ask("?namespace=research", Cookie=cookie)
    assert status == 200 and "Log out" in text
    among = f'odd=[{{"a": 1}}]; {cookie}; "="'
    assert (await browser.ask("?namespace=research", Cookie=among))[0] == 200, "others have cookies there, too"
    for broken in (cookie[:-4], cookie.replace("=", "=A", 1), f"__Host-crikpy={RESEARCHER}"):
        assert (await browser.ask("?namespace=research", Cookie=broken))[0] == 401
    del kube.people[RESEARCHER]
    _, _, answer = await browser.ask("logout", method="POST", Cookie=cookie)
    assert "Max-Age=0" in answer.headers["Set-Cookie"]


async def test_a_form_that_another_site_has_sent_is_not_taken(browser: Browser) -> None:
    for where in ("login", "logout"):
        sent = {"token": OPERATOR}
        status, _, answer = await browser.ask(where, method="POST", form=sent, Sec_Fetch_Site="cross-site")
        assert status == 403 and "Set-Cookie" not in answer.headers


async def test_every_answer_forbids_to_be_kept_framed_or_to_ask_elsewhere(browser: Browser) -> None:
    answers = [
        await browser.ask(),
        await browser.ask(Authorization=f"Bearer {OPERATOR}"),
        await browser.ask("page.css"),
        await browser.ask("page.js"),
        await browser.ask("login", method="POST", form={"token": OPERATOR}),
        await browser.ask("?namespace=%00"),
    ]
    for _, _, answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_nothing_but_looking_and_sessions_is_served(browser: Browser) -> None:
    bearer = f"Bearer {OPERATOR}"
    for method in ("PUT", "DELETE", "PATCH", "POST"):
        assert (await browser.ask(method=method, Authorization=bearer))[0] == 405
    for where in ("../etc/passwd", "templates/page.html", "page.css/..%2f", "metrics", "mutate-pods"):
        assert (await browser.ask(where, Authorization=bearer))[0] in (404, 405)
    status, text, _ = await browser.ask(method="HEAD", Authorization=bearer)
    assert (status, text) == (200, "")


async def test_names_from_the_cluster_are_text(browser: Browser, kube: FakeKube, story: object) -> None:
    evil = '<script>alert(1)</script>"><img src=x>'
    kube.update(NODES, "ip-10-0-4-4.eu-central-1.compute.internal", ready_message(kube, evil))
    bearer = f"Bearer {OPERATOR}"

    text = await browser.told("alert(1)", bearer)
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text and "<img" not in text
    status, text, _ = await browser.ask(f"?namespace={evil}", Authorization=bearer)
    assert status == 400 and "<script>alert" not in text


def ready_message(kube: FakeKube, message: str) -> dict[str, object]:
    """Return the change by which the agent of that node says something else."""
    node = kube.get(NODES, "ip-10-0-4-4.eu-central-1.compute.internal")
    assert node is not None
    conditions = [
        {**condition, "message": message} if condition["type"] == "CrikpyReady" else condition
        for condition in node["status"]["conditions"]
    ]
    return {"status": {"conditions": conditions}}


async def test_an_open_page_does_not_ask_the_api_server_each_time(browser: Browser, kube: FakeKube) -> None:
    for _ in range(5):
        assert (await browser.ask(Authorization=f"Bearer {OPERATOR}"))[0] == 200
        assert (await browser.ask(Authorization="Bearer wrong"))[0] == 401
    assert len(kube.seen("create", "tokenreviews")) == 2
    assert len(kube.seen("create", "subjectaccessreviews")) == 3


async def test_while_the_api_server_cannot_say_who_asks_nobody_is_let_in(browser: Browser, kube: FakeKube) -> None:
    kube.trouble("503", verb="create")
    status, text, _ = await browser.ask(Authorization=f"Bearer {OPERATOR}")
    assert status == 503 and "resnet" not in text
    assert (await browser.ask("login", method="POST", form={"token": OPERATOR}))[0] == 503


async def test_what_was_seen_last_is_shown_as_such_while_the_api_server_is_away(
    browser: Browser, kube: FakeKube
) -> None:
    bearer = f"Bearer {OPERATOR}"
    assert "cannot be reached" not in (await browser.ask(Authorization=bearer))[1]
    await kube.stop()
    assert "resnet-0" in await browser.told("cannot be reached", bearer)


async def test_the_certificate_is_for_the_page_and_for_a_forwarded_port(url: str, kube: FakeKube) -> None:
    (secret,) = kube.all(SECRETS)
    authority = base64.b64decode(secret["data"]["ca.crt"]).decode()
    trusting = ssl.create_default_context(cadata=authority)
    async with aiohttp.ClientSession() as session, session.get(url, ssl=trusting) as answer:
        assert answer.status == 401
