"""However many look, a view is made once at a time, and what happens meanwhile does not wait for it."""

from __future__ import annotations

import asyncio

from crikpy.model.orders import OrderPhase
from crikpy.page.facts import Facts
from crikpy.page.views import Views
from tests.page.facts import facts, order


class Looks:
    """Counts how often somebody looks."""

    def __init__(self, seen: Facts | None) -> None:
        self.seen = seen
        self.count = 0

    def __call__(self) -> Facts | None:
        self.count += 1
        return self.seen


async def test_who_looks_at_the_same_time_shares_a_view() -> None:
    looks = Looks(facts())
    views = Views(looks, good_s=60)
    found = await asyncio.gather(*(views.get("") for _ in range(20)))
    assert looks.count == 1
    assert all(view is found[0] for view in found)
    assert await views.get("team") is not found[0], "each namespace has its own"


async def test_a_view_is_good_for_a_moment_only() -> None:
    looks = Looks(facts())
    views = Views(looks, good_s=0)
    for _ in range(3):
        await views.get("")
    assert looks.count == 3


async def test_nothing_is_shown_or_kept_before_anything_was_seen() -> None:
    looks = Looks(None)
    views = Views(looks, good_s=60)
    assert await views.get("") is None
    looks.seen = facts()
    assert await views.get("") is not None


async def test_others_go_on_while_a_large_view_is_made() -> None:
    large = facts(*(order(f"u{number}", OrderPhase.COMPLETE, number / 100) for number in range(3000)))
    making = asyncio.create_task(Views(Looks(large)).get(""))
    turns = 0
    while not making.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    view = making.result()
    assert view is not None and view.checkpoints
