"""Turns at dumping: who waits for one has his place in the plan of the node, and begins when that says so.

The plan is made anew when something comes, ends or moves on, and every second while something waits, since time
moves on as well. What it decides is told where somebody is to know it; it changes nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from crikpy.agent.acts import Act
from crikpy.agent.forecasts import Forecasts
from crikpy.agent.measuring import Meter
from crikpy.agent.planning import Candidate, Picture, Plan, Planned, Urgency, Verdict, plan
from crikpy.agent.sizing import Size, Sizes
from crikpy.errors import CapsuleError, DeadlineError
from crikpy.metrics import Metrics

_AGAIN_S: Final = 1.0
_COUNTED: Final = {
    "running": (Verdict.RUNNING,),
    "next": (Verdict.NEXT, Verdict.WAITS),
    "last": (Verdict.LAST,),
    "unsaved": (Verdict.UNSAVED,),
}


@dataclass(slots=True, eq=False)
class _Place:
    """An act that waits, or has its turn.

    Attributes:
        act: the act.
        called: done once its turn has come, or is known never to come.
        patience: ends the wait at its deadline.
        began: monotonic time at which its turn came; None before.
        planned: what the last plan said of it.
    """

    act: Act
    called: asyncio.Future[None]
    patience: asyncio.Timeout
    began: float | None = None
    planned: Planned | None = None


class Turns:
    """So many turns at once; used on the event loop only."""

    def __init__(self, at_once: int, sizes: Sizes, meter: Meter, forecasts: Forecasts, metrics: Metrics) -> None:
        """Make ready.

        Args:
            at_once: the most turns at once.
            sizes: knows how much there is to be saved.
            meter: knows what the node can do.
            forecasts: hears what is planned.
            metrics: counted in.
        """
        self._at_once = at_once
        self._sizes = sizes
        self._meter = meter
        self._forecasts = forecasts
        self._metrics = metrics
        self._places: dict[str, _Place] = {}
        self._measured: set[Act] = set()
        """Acts whose size is being found out; they may be more pressing than those that wait."""

        self._soon: asyncio.Handle | None = None
        self._again: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def turn(self, act: Act) -> AsyncIterator[None]:
        """Have a turn for as long as the context lasts.

        Raises:
            DeadlineError: it did not come in time, or a SIGTERM is kept from the jobs in vain.
            CapsuleError: the pod cannot be saved as it is.
        """
        act.size = await self._measure(act)
        place = _Place(
            act=act,
            called=asyncio.get_running_loop().create_future(),
            patience=asyncio.timeout_at(act.deadline.at),
        )
        self._places[act.key] = place
        try:
            await self._await(place)
            yield
        finally:
            del self._places[act.key]
            self._forecasts.forget(act)
            self.replan()

    def has(self, act: Act) -> bool:
        """Say whether an act waits here, or has its turn."""
        return act.key in self._places

    def hurry(self, act: Act) -> None:
        """Take note that an act's deadline or urgency has changed."""
        place = self._places.get(act.key)
        if place is None:
            return
        if not place.called.done():
            place.patience.reschedule(act.deadline.at)
        self.replan()

    def replan(self) -> None:
        """Have the plan made anew in a moment, once for all that has changed until then."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._replan)

    def _replan(self) -> None:
        """Make the plan anew, and let those begin whose turn has come."""
        self._soon = None
        if self._measured:
            return
        if self._again is not None:
            self._again.cancel()
            self._again = None
        places = {key: place for key, place in self._places.items() if not place.act.outcome.done()}
        made = plan(self._picture(places))
        for entry in made.entries:
            places[entry.key].planned = entry
        self._count(made)
        self._forecasts.tell(made, {key: place.act for key, place in places.items()})
        for key in made.begins:
            self._call(places[key])
            self.replan()  # with it under way
        for place in places.values():
            if not place.act.causes:  # whatever its turn: it is found needed no more, and ends
                self._call(place)
        for entry in made.entries:
            self._give_up(places[entry.key], entry)
        waiting = [place.act for place in places.values() if not place.called.done()]
        if any(act.urgency < Urgency.RUNNING_ON for act in waiting):
            for place in places.values():
                if place.began is not None:
                    place.act.fate.hasten()
        if waiting:
            self._again = asyncio.get_running_loop().call_later(_AGAIN_S, self._replan)

    async def _measure(self, act: Act) -> Size:
        self._measured.add(act)
        try:
            return await self._sizes.of(act.session)
        finally:
            self._measured.discard(act)
            self.replan()

    async def _await(self, place: _Place) -> None:
        try:
            async with place.patience:
                self.replan()
                await place.called
        except TimeoutError as late:
            raise DeadlineError(self._forecasts.why_late(place.act, place.planned)) from late

    def _picture(self, places: dict[str, _Place]) -> Picture:
        return Picture(
            now=time.monotonic(),
            slots=self._at_once,
            expected=self._meter.expected(),
            best=self._meter.best(),
            exploring=self._meter.exploring,
            candidates=tuple(_candidate(place) for place in places.values()),
        )

    def _call(self, place: _Place) -> None:
        if not place.called.done():
            place.began = time.monotonic()
            place.called.set_result(None)

    def _give_up(self, place: _Place, entry: Planned) -> None:
        """Wait no longer for what cannot be: a SIGTERM that is kept from the jobs had better reach them soon."""
        if place.called.done():
            return
        if entry.verdict is Verdict.REFUSED:
            place.called.set_exception(CapsuleError(_refusal(place.act)))
        elif entry.verdict is Verdict.UNSAVED and place.act.urgency is Urgency.PRESSING:
            place.called.set_exception(DeadlineError(self._forecasts.why_late(place.act, entry)))

    def _count(self, made: Plan) -> None:
        found = Counter(entry.verdict for entry in made.entries)
        for label, verdicts in _COUNTED.items():
            self._metrics.planned_pods.labels(verdict=label).set(sum(found[verdict] for verdict in verdicts))


def _candidate(place: _Place) -> Candidate:
    return place.act.candidate(place.began, _refusal(place.act))


def _refusal(act: Act) -> str:
    """Return why a pod cannot be saved as it is now, or nothing."""
    if missing := sorted(set(act.pod.injected) - act.session.capsules.keys()):
        return f"no launcher answers in {', '.join(missing)} of pod {act.pod}"
    return ""
