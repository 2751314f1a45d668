"""Everything that the status page shows, in the words in which it shows it: facts in, one frozen view out.

Pure. Times stay times, so that templates write them in one way; what is left out for its number is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from crikpy.model.notices import InterruptionNotice
from crikpy.model.orders import Order
from crikpy.model.quantities import human_size, human_span
from crikpy.page.facts import Facts
from crikpy.page.hours import Hours, count_hours
from crikpy.page.lives import Fate, Job, Life, jobs_of, lives_of, moment
from crikpy.page.obstacles import Obstacle, obstacles_of, why_unable
from crikpy.page.rescues import Rescue, rescues_on
from crikpy.page.timelines import Timeline, draw, human_seconds, kind_of

MOST_JOBS: Final = 40
MOST_CHECKPOINTS: Final = 60
MOST_OBSTACLES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """A node under notice.

    Attributes:
        name: its name.
        instance_type: such as `m7i.4xlarge`, or empty.
        what: what is to happen to it.
        source: who says so.
        deadline: when, aware UTC; None where nobody knows.
        left: the time until then in words; empty where that has passed, or nobody knows.
        rescues: its pods.
    """

    name: str
    instance_type: str
    what: str
    source: str
    deadline: datetime | None
    left: str
    rescues: tuple[Rescue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job.

    Attributes:
        key: tells it from all others, of letters that an HTML id can have.
        name: of its last pod, with the namespace.
        fate: how it stands with it, in words.
        kind: the same as a word for its colour.
        moves: how often another pod went on with it.
        timeline: its life.
        steps: the same in sentences, the oldest first.
    """

    key: str
    name: str
    fate: str
    kind: str
    moves: int
    timeline: Timeline
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """One Checkpoint object; what is not known is empty.

    Attributes:
        name: its name.
        pod: its pod, with the namespace.
        node: where it was taken.
        trigger: why.
        phase: how far it is.
        kind: `good`, `bad` or `busy`.
        when: when it was answered, begun or made, aware UTC.
        size: plain bytes of memory, in words.
        stored: of these newly written.
        reused: of these known already.
        frozen: how long the job stood still.
        total: how long it took.
        resumed_by: the pod that goes on from it.
        message: what was said last.
    """

    name: str
    pod: str
    node: str
    trigger: str
    phase: str
    kind: str
    when: datetime | None
    size: str
    stored: str
    reused: str
    frozen: str
    total: str
    resumed_by: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The whole page.

    Attributes:
        now: of the facts.
        current: whether they are current.
        namespace: the one that is shown; empty for all.
        hours: of work, saved and lost.
        running: pods that have opted in and run.
        stored: bytes that the recorded checkpoints have written, in words.
        nodes: those under notice, the most pressing first.
        jobs: those with a story first.
        more_jobs: how many are left out.
        checkpoints: the newest first.
        more_checkpoints: how many are left out.
        obstacles: pods that cannot be saved.
        more_obstacles: how many are left out.
        unable: nodes on which nothing can be saved, each with the reason.
    """

    now: datetime
    current: bool
    namespace: str
    hours: Hours
    running: int
    stored: str
    nodes: tuple[NodeRow, ...]
    jobs: tuple[JobRow, ...]
    more_jobs: int
    checkpoints: tuple[CheckpointRow, ...]
    more_checkpoints: int
    obstacles: tuple[Obstacle, ...]
    more_obstacles: int
    unable: tuple[tuple[str, str], ...]


def view_of(facts: Facts, namespace: str = "") -> View:
    """Return what is shown of a namespace, or of all."""
    facts = facts.within(namespace)
    lives = lives_of(facts)
    jobs = sorted(jobs_of(lives), key=_newest_story_first)
    orders = sorted(facts.orders, key=lambda order: (_stamp(moment(order)), order.name), reverse=True)
    obstacles = obstacles_of(facts)
    occupied = {pod.node for pod in facts.pods}
    return View(
        now=facts.now,
        current=facts.current,
        namespace=namespace,
        hours=count_hours(lives),
        running=sum(pod.phase == "Running" for pod in facts.pods),
        stored=human_size(sum(order.status.bytes.stored for order in orders)),
        nodes=tuple(_node_rows(facts)),
        jobs=tuple(_job_row(job, facts.now) for job in jobs[:MOST_JOBS]),
        more_jobs=max(0, len(jobs) - MOST_JOBS),
        checkpoints=tuple(map(_checkpoint_row, orders[:MOST_CHECKPOINTS])),
        more_checkpoints=max(0, len(orders) - MOST_CHECKPOINTS),
        obstacles=obstacles[:MOST_OBSTACLES],
        more_obstacles=max(0, len(obstacles) - MOST_OBSTACLES),
        unable=tuple(
            (name, why)
            for name, node in sorted(facts.nodes.items())
            if (node.unable or name in occupied) and (why := why_unable(node))
        ),
    )


# ---- nodes ---------------------------------------------------------------------------


def _node_rows(facts: Facts) -> Sequence[NodeRow]:
    def pressing(row: NodeRow) -> tuple[bool, float, str]:
        return row.deadline is None, _stamp(row.deadline), row.name

    rows = [_node_row(name, notice, facts) for name, notice in facts.notices.items()]
    return sorted(rows, key=pressing)


def _node_row(name: str, notice: InterruptionNotice, facts: Facts) -> NodeRow:
    node = facts.nodes.get(name)
    ahead = None if notice.deadline is None else (notice.deadline - facts.now).total_seconds()
    return NodeRow(
        name=name,
        instance_type=node.instance_type if node else "",
        what=f"{notice.trigger}{f' ({notice.action})' if notice.action else ''}",
        source=notice.source,
        deadline=notice.deadline,
        left=human_span(ahead) if ahead is not None and ahead > 0 else "",
        rescues=rescues_on(name, notice, facts),
    )


# ---- jobs ----------------------------------------------------------------------------


def _newest_story_first(job: Job) -> tuple[bool, float, str]:
    told = [when for life in job.lives for order in life.orders if (when := moment(order)) is not None]
    return not told, -_stamp(max(told, default=None)), f"{job.last.namespace}/{job.last.pod}"


def _job_row(job: Job, now: datetime) -> JobRow:
    last = job.last
    return JobRow(
        key=f"job-{job.lives[0].uid}",
        name=f"{last.namespace}/{last.pod}",
        fate=last.fate.value,
        kind=last.fate.name.lower(),
        moves=sum(life.resumed_from is not None for life in job.lives),
        timeline=draw(job, now),
        steps=tuple(step for life in job.lives for step in _steps(life)),
    )


def _steps(life: Life) -> list[str]:
    """Tell the life of one pod."""
    where = life.node or "a node that is not recorded"
    if life.resumed_from is not None:
        began = f"went on as {life.pod} on {where}"
    else:
        began = f"began as {life.pod} on {where}"
    steps = [f"{_clock(life.begin)}: {began}"]
    for order in life.orders:
        status = order.status
        frozen = "" if status.frozen_s is None else f", stood still for {human_seconds(status.frozen_s)}"
        if status.checkpoint:
            what = f"{order.spec.trigger}: {human_size(status.bytes.memory)} saved{frozen}"
        else:
            what = f"{order.spec.trigger}: {status.phase}{f', {status.message}' if status.message else ''}"
        steps.append(f"{_clock(moment(order))}: {what}")
    if life.fate is not Fate.RUNS and life.begin is not None and life.end is not None:
        worked = (life.end - life.begin).total_seconds()
        steps.append(f"{_clock(life.end)}: {life.fate}, after {human_span(worked)} of work there")
    return steps


def _clock(when: datetime | None) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S}" if when is not None else "at a time that is not recorded"


# ---- checkpoints ---------------------------------------------------------------------


def _checkpoint_row(order: Order) -> CheckpointRow:
    status, known = order.status, bool(order.status.checkpoint)
    return CheckpointRow(
        name=order.name,
        pod=f"{order.namespace}/{order.spec.pod}",
        node=order.spec.node,
        trigger=order.spec.trigger,
        phase=status.phase,
        kind=kind_of(order),
        when=moment(order),
        size=human_size(status.bytes.memory) if known else "",
        stored=human_size(status.bytes.stored) if known else "",
        reused=human_size(status.bytes.reused) if known else "",
        frozen="" if status.frozen_s is None else human_seconds(status.frozen_s),
        total="" if status.total_s is None else human_seconds(status.total_s),
        resumed_by="/".join(status.restored_by.split("/")[:2]),
        message=status.message,
    )


def _stamp(when: datetime | None) -> float:
    return when.timestamp() if when is not None else 0.0
