"""The page in a real Chromium: with JavaScript and without, wide and narrow, light and dark, seen and heard.

One browser and one server are shared; each test has a context of its own, and adds to the story what it needs.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

from crikpy.kube.resources import NODES
from crikpy.model.notices import Trigger
from tests.fakes.kube import FakeKube
from tests.fakes.kube_people import Somebody
from tests.page.conftest import OPERATOR, RESEARCHER
from tests.page.serving import serving
from tests.page.story import Teller, tell

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHROMIUM = Path("/usr/bin/chromium")
CONTRAST = "color-contrast"
PATIENCE_MS = 15_000

expect.set_options(timeout=PATIENCE_MS)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What all tests share; `session` is what a browser keeps that is logged in."""

    browser: Browser
    kube: FakeKube
    story: Teller
    url: str
    session: Any

    async def page(self, **options: Any) -> tuple[Page, list[str]]:
        """Return a fresh page, with a list to which everything is added that it should not do."""
        context = await self.browser.new_context(ignore_https_errors=True, **options)
        context.set_default_timeout(PATIENCE_MS)
        page = await context.new_page()
        faults: list[str] = []
        page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith(self.url) else faults.append(asked.url))
        return page, faults

    async def logged_in(self, *, clock: bool = False, **options: Any) -> tuple[Page, list[str]]:
        """Return a page that shows the cluster, with a clock that the test moves on or the real one."""
        page, faults = await self.page(storage_state=self.session, **options)
        if clock:
            await page.clock.install()
            await page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=1))
        await page.goto(self.url)
        await expect(page.get_by_role("heading", name="Nodes under notice")).to_be_visible()
        return page, faults


async def log_in(page: Page, token: str) -> None:
    await page.get_by_label("Bearer token").fill(token)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Nodes under notice")).to_be_visible()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}: hack/setup test installs it")
    return tmp_path_factory.mktemp("page")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(folder: Path) -> AsyncIterator[Stage]:
    async with FakeKube().serving() as kube:
        kube.people = {
            OPERATOR: Somebody(name="system:serviceaccount:platform:on-call"),
            RESEARCHER: Somebody(name="researcher", namespaces=("research",)),
        }
        story = tell(kube)
        story.node("slow-node", notice=story.notice(Trigger.SPOT_INTERRUPTION, "spot-7", 3000))
        async with serving(kube, folder) as url, async_playwright() as playwright:
            # Root, as which containers of CI run, gets no sandbox; nothing but our own page is opened.
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            context = await browser.new_context(ignore_https_errors=True)
            page = await context.new_page()
            await page.goto(url)
            await log_in(page, OPERATOR)
            session = await context.storage_state()
            yield Stage(browser=browser, kube=kube, story=story, url=url, session=session)
            await browser.close()


async def test_a_token_opens_the_page_and_logging_out_closes_it(stage: Stage) -> None:
    page, faults = await stage.page()
    await page.goto(stage.url)
    await page.get_by_label("Bearer token").fill("wrong")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_contain_text("does not accept")
    await log_in(page, OPERATOR)
    assert page.url == stage.url, "the token is in no address"
    await expect(page.get_by_text("system:serviceaccount:platform:on-call")).to_be_visible()
    assert await page.evaluate("document.cookie") == "", "no script can read the session"
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("Bearer token")).to_be_visible()
    await page.goto(stage.url)
    await expect(page.get_by_label("Bearer token")).to_be_visible()
    assert all("401" in fault for fault in faults), faults


async def test_what_happens_is_shown_at_once_and_the_time_is_counted_down(stage: Stage) -> None:
    page, faults = await stage.logged_in(clock=True)
    countdown = page.get_by_role("article", name="slow-node").locator(".countdown")
    before = seconds_of(await countdown.text_content())
    await page.clock.run_for(3000)
    assert seconds_of(await countdown.text_content()) <= before - 2, "each side rounds by itself"
    words = page.get_by_role("article", name="research/llm-tune-3")
    await words.get_by_text("In words").click()
    stage.story.node("fresh-node", notice=stage.story.notice(Trigger.SPOT_INTERRUPTION, "spot-9", 110))
    fresh = page.get_by_role("article", name="fresh-node")
    # The page asks again five of its seconds after an answer has come, and answers come when they come.
    while await fresh.count() == 0:
        await page.clock.run_for(1000)
    await expect(page).to_have_title(re.compile("^4 under notice"))
    await expect(words.get_by_role("list")).to_be_visible()  # what was opened stays open
    stage.kube.remove(NODES, "fresh-node")
    assert not faults


def seconds_of(text: str | None) -> int:
    """Read a countdown."""
    found = re.fullmatch(r"(?:(\d+) min )?(\d+) s", text or "")
    assert found is not None, text
    return 60 * int(found[1] or 0) + int(found[2])


async def test_without_javascript_the_browser_asks_again_by_itself(stage: Stage) -> None:
    page, faults = await stage.logged_in(java_script_enabled=False)
    await expect(page.get_by_role("article", name="ip-10-0-1-17").locator(".countdown")).to_be_visible()
    stage.story.node("plain-node", notice=stage.story.notice(Trigger.SPOT_INTERRUPTION, "spot-8", 110))
    await expect(page.get_by_role("article", name="plain-node")).to_be_visible(timeout=15_000)
    await page.get_by_role("article", name="research/llm-tune-3").get_by_text("In words").click()
    await expect(page.get_by_role("article", name="research/llm-tune-3").get_by_role("list")).to_be_visible()
    stage.kube.remove(NODES, "plain-node")
    assert not faults


async def test_a_controller_that_does_not_answer_is_told_as_such(stage: Stage) -> None:
    page, _ = await stage.logged_in(clock=True)
    await expect(page.get_by_role("status")).to_be_empty()
    await page.context.set_offline(True)
    await page.clock.run_for(6000)
    await expect(page.get_by_role("status")).to_contain_text("does not answer")
    await expect(page.get_by_role("article", name="research/llm-tune-3")).to_be_visible()
    await page.context.set_offline(False)
    await page.clock.run_for(6000)
    await expect(page.get_by_role("status")).to_be_empty()


async def test_a_session_that_has_ended_brings_the_form_back(stage: Stage) -> None:
    page, _ = await stage.logged_in(clock=True)
    await page.context.clear_cookies()
    await page.clock.run_for(6000)
    await expect(page.get_by_label("Bearer token")).to_be_visible()


async def test_who_may_see_one_namespace_names_it(stage: Stage) -> None:
    page, _ = await stage.page()
    await page.goto(stage.url)
    await page.get_by_label("Bearer token").fill(RESEARCHER)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Not allowed")).to_be_visible()
    await page.get_by_label("Namespace").fill("research")
    await page.get_by_role("button", name="Show it").click()
    await expect(page.get_by_role("article", name="research/resnet-0")).to_be_visible()
    await expect(page.get_by_role("article", name="simulation/flow-12")).to_have_count(0)


async def test_a_job_that_moved_is_one_picture_across_its_nodes(stage: Stage) -> None:
    page, _ = await stage.logged_in()
    job = page.get_by_role("article", name="research/resnet-0")
    picture = job.get_by_role("img", name="The life of research/resnet-0")
    assert await picture.locator("rect").count() == 3
    assert await picture.locator(".link").count() == 4, "two moves, each down and along"
    boxes = [await bar.bounding_box() for bar in await picture.locator("rect").all()]
    frame = await picture.bounding_box()
    assert frame is not None
    ends: list[float] = []
    for box in boxes:
        assert box is not None
        assert frame["x"] <= box["x"] and box["x"] + box["width"] <= frame["x"] + frame["width"]
        assert not ends or box["x"] >= ends[-1], "each begins where the one before it ended, or later"
        ends.append(box["x"] + box["width"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_read_it(stage: Stage, scheme: str) -> None:
    page, _ = await stage.logged_in(color_scheme=scheme)
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    found = await Axe().run(page)
    assert not found.violations_count, found.generate_report()
    checked = {rule["id"] for rule in found.response["passes"]}
    assert CONTRAST in checked and "label" in checked and "svg-img-alt" in checked
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("Bearer token")).to_be_visible()
    form = await Axe().run(page)
    assert not form.violations_count, form.generate_report()


async def test_on_a_narrow_screen_only_the_table_is_wider_than_the_page(stage: Stage) -> None:
    page, _ = await stage.logged_in(viewport={"width": 360, "height": 740})
    wide = await page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360
    assert await page.locator(".wide").evaluate("place => place.scrollWidth > place.clientWidth")
    heading = page.get_by_role("heading", name="Checkpoints")
    await heading.scroll_into_view_if_needed()
    await expect(heading).to_be_visible()


async def test_it_can_be_used_by_keyboard(stage: Stage) -> None:
    page, _ = await stage.page()
    await page.goto(stage.url)
    await expect(page.get_by_label("Bearer token")).to_be_focused()
    await page.keyboard.type(OPERATOR)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Nodes under notice")).to_be_visible()
    reached = set()
    for _ in range(25):
        await page.keyboard.press("Tab")
        reached.add(await page.evaluate("document.activeElement.tagName + '.' + document.activeElement.className"))
    assert {"INPUT.", "BUTTON.", "SUMMARY.", "DIV.wide"} <= reached
