"""What saving live jobs would cost now, in words and figures; the same for jobs of machines and for pods."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from crikpy.agent.measuring import OVERHEAD_S
from crikpy.agent.planning import Rates
from crikpy.agent.sizing import Size
from crikpy.cli.watching import Listing, Row
from crikpy.model.quantities import human_age, human_size
from crikpy.settings import Settings

NOTICE_S: Final = 120.0
"""What a spot interruption gives."""

_FIGURES: Final = ("MEMORY", "PROCS", "STORED", "TO WRITE", "SECONDS", "OF 120 S", "LAST")
_COLUMNS: Final = ("JOB", "NODE", *_FIGURES, "CAN BE SAVED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One live job and what saving it would cost.

    Attributes:
        job: its name, as other commands take it.
        node: where it runs; empty for this machine.
        namespace: of a pod.
        memory_bytes: what it has in memory that no file stands behind; None while nobody knows.
        processes: how many; None likewise.
        stored_bytes: of what is to be saved, what the store is expected to have already.
        write_bytes: what is expected to be new to it, before it is compressed; None where nobody knows.
        seconds: how long a save is expected to take; None likewise.
        rates: `measured`, or `assumed` as long as nothing was measured.
        last_s: seconds since the last complete checkpoint; None when there is none.
        able: whether it can be saved, as far as is known.
        why: why not, or what is not known.
    """

    job: str
    node: str = ""
    namespace: str = ""
    memory_bytes: int | None = None
    processes: int | None = None
    stored_bytes: int | None = None
    write_bytes: int | None = None
    seconds: float | None = None
    rates: str = "assumed"
    last_s: float | None = None
    able: bool = True
    why: str = ""


def assumed_rates(settings: Settings) -> Rates:
    """Return what a node is taken to do whose agent has measured nothing."""
    assumed = float(settings.agent.assumed_bytes_per_s)
    return Rates(read=assumed, write=assumed, overhead_s=OVERHEAD_S)


def seconds_of(size: Size, rates: Rates) -> float:
    """Return how long a save alone takes, as the plan of a node would have it, seconds."""
    return rates.overhead_s + rates.moving_s(size.memory, size.new)


def listing(costs: list[Cost], *, empty: str, foot: tuple[str, ...] = ()) -> Listing:
    """Return the table, the dearest job first."""
    ranked = sorted(costs, key=lambda cost: (-(cost.seconds or 0.0), cost.namespace, cost.job))
    if any(cost.rates == "assumed" and cost.seconds is not None for cost in costs):
        foot = (*foot, "~ by an assumed throughput (CRIKPY_AGENT_ASSUMED_BYTES_PER_S): nothing was measured yet")
    return Listing(columns=_COLUMNS, rows=tuple(map(_row, ranked)), right=_FIGURES, empty=empty, foot=foot)


def _row(cost: Cost) -> Row:
    share = None if cost.seconds is None else cost.seconds / NOTICE_S
    mark = "~" if cost.rates == "assumed" else ""
    cells = (
        f"{cost.job} -n {cost.namespace}" if cost.namespace else cost.job,
        cost.node,
        _size(cost.memory_bytes),
        "?" if cost.processes is None else str(cost.processes),
        _size(cost.stored_bytes),
        _size(cost.write_bytes),
        "?" if cost.seconds is None else f"{mark}{cost.seconds:.0f}",
        "?" if share is None else f"{mark}{share:.0%}",
        "never" if cost.last_s is None else human_age(cost.last_s),
        "yes" + (f" ({cost.why})" if cost.why else "") if cost.able else f"no: {cost.why}",
    )
    style = "red" if not cost.able or (share or 0.0) > 1.0 else ""
    return Row(
        key=f"{cost.node} {cost.namespace} {cost.job}",
        cells=cells,
        facts={**asdict(cost), "share": share},
        style=style,
    )


def _size(count: int | None) -> str:
    return "?" if count is None else human_size(count)
