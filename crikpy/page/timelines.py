"""A job's life as a picture: a lane for each of its pods, a bar for the time in which it worked, marks and links.

Pure geometry. Places along the time are percentages, so that the picture is as wide as there is room and its words
keep their size; heights are pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from crikpy.model.orders import Order, OrderPhase
from crikpy.model.quantities import human_size, human_span
from crikpy.page.lives import Fate, Job, Life, moment

LANE: Final = 38
"""Pixels of one lane: the name of its node, and the bar below it."""

BAR_TOP: Final = 20
BAR: Final = 10
_AXIS: Final = 20
_NARROWEST: Final = 0.4
_LEFT, _RIGHT = 0.6, 99.4
"""Percent of the width between which bars lie, so that marks at their ends are not cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A checkpoint on a bar.

    Attributes:
        x: where, percent.
        y: the middle of the bar, pixels.
        kind: `good`, `bad` or `busy`.
        title: what it is, in words.
    """

    x: float
    y: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One pod.

    Attributes:
        label: where it was, and which one it is.
        y: top of the lane, pixels.
        x: where the bar begins, percent.
        width: how long it is, percent.
        kind: how it stands with it: `runs`, `moved`, `waits`, `lost` or `ended`.
        unsure: nobody has recorded when it began.
        title: the same in words.
        marks: its checkpoints.
    """

    label: str
    y: int
    x: float
    width: float
    kind: str
    unsure: bool
    title: str
    marks: tuple[Mark, ...]

    @property
    def bar_y(self) -> int:
        """Top of the bar, pixels."""
        return self.y + BAR_TOP


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The way from a checkpoint to where it was resumed: down, then along to where the next bar begins."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The picture.

    Attributes:
        height: pixels.
        bar: height of a bar, pixels.
        lanes: from top to bottom.
        links: between them.
        begin: its left end, aware UTC.
        end: its right end, aware UTC.
    """

    height: int
    bar: int
    lanes: tuple[Lane, ...]
    links: tuple[Link, ...]
    begin: datetime
    end: datetime


def draw(job: Job, now: datetime) -> Timeline:
    """Return the picture of a job."""
    begin = min((life.earliest for life in job.lives if life.earliest is not None), default=now)
    running = any(life.end is None for life in job.lives) or job.last.fate is Fate.WAITS
    end = now if running else max((life.end for life in job.lives if life.end is not None), default=now)
    scale = _Scale(begin, max(end, begin))
    lanes = tuple(_lane(life, place, scale, now) for place, life in enumerate(job.lives))
    return Timeline(
        height=len(lanes) * LANE + _AXIS,
        bar=BAR,
        lanes=lanes,
        links=tuple(_links(job.lives, scale)),
        begin=begin,
        end=end,
    )


class _Scale:
    def __init__(self, begin: datetime, end: datetime) -> None:
        self._begin = begin
        self._seconds = max((end - begin).total_seconds(), 1.0)

    def at(self, when: datetime) -> float:
        """Return where a time lies, percent."""
        share = (when - self._begin).total_seconds() / self._seconds
        return round(_LEFT + (_RIGHT - _LEFT) * min(1.0, max(0.0, share)), 2)


def _lane(life: Life, place: int, scale: _Scale, now: datetime) -> Lane:
    begin = life.begin or life.earliest or now
    x, right = scale.at(begin), scale.at(life.end or now)
    middle = place * LANE + BAR_TOP + BAR / 2
    return Lane(
        label=f"{life.node or 'node not recorded'} · {life.pod}",
        y=place * LANE,
        x=x,
        width=round(max(right - x, _NARROWEST), 2),
        kind=life.fate.name.lower(),
        unsure=life.begin is None,
        title=f"{life.pod} on {life.node or 'a node that is not recorded'}: {life.fate}",
        marks=tuple(_mark(order, when, middle, scale) for order in life.orders if (when := moment(order))),
    )


def _mark(order: Order, when: datetime, y: float, scale: _Scale) -> Mark:
    return Mark(x=scale.at(when), y=y, kind=kind_of(order), title=f"{when:%H:%M:%S} {told(order)}")


def kind_of(order: Order) -> str:
    """Return how a checkpoint stands: `good`, `bad` or `busy`."""
    if order.status.phase in (OrderPhase.FAILED, OrderPhase.EXPIRED):
        return "bad"
    return "good" if order.status.phase.final or order.status.checkpoint else "busy"


def told(order: Order) -> str:
    """Return in a few words what became of a checkpoint."""
    status = order.status
    if not status.checkpoint:
        return f"{order.spec.trigger}, {status.phase}"
    frozen = "" if status.frozen_s is None else f", stood still for {human_seconds(status.frozen_s)}"
    return f"{order.spec.trigger}, {status.phase}: {human_size(status.bytes.memory)}{frozen}"


def human_seconds(seconds: float) -> str:
    """Return a short length of time with a tenth of a second where that says something."""
    return f"{seconds:.1f} s" if seconds < 60 else human_span(seconds)


def _links(lives: Sequence[Life], scale: _Scale) -> list[Link]:
    places = {(life.namespace, life.uid): place for place, life in enumerate(lives)}
    found = []
    for place, life in enumerate(lives):
        if life.resumed_from is None or life.begin is None:
            continue
        origin = places.get((life.namespace, life.resumed_from.spec.pod_uid))
        taken = life.resumed_from.status.completed
        if origin is not None and taken is not None:
            y1, y2 = origin * LANE + BAR_TOP + BAR, place * LANE + BAR_TOP + BAR / 2
            found.append(Link(x1=scale.at(taken), y1=y1, x2=scale.at(life.begin), y2=y2))
    return found
