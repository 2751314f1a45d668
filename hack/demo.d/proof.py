"""What the demo proves: that a job that moved did exactly what it would have done undisturbed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

Steps = Sequence[Mapping[str, Any]]


@dataclass(slots=True, kw_only=True)
class Findings:
    """The demo's last line; what is not known stays None.

    Attributes:
        survived: the job moved, ended well, and everything below that must hold does.
        job: which training program.
        processes: how many processes moved.
        steps_before: steps that it took on the first machine.
        steps_after: steps that it took on the second.
        lost_steps: steps that nobody took.
        repeated_steps: steps that were taken twice.
        losses_identical: the losses equal those of an undisturbed run, bit for bit and in the same order.
        files_moved: the file that the job has written since its first step is whole on the second machine.
        notice_to_frozen_s: from the notice to the first stopped process.
        notice_to_committed_s: from the notice to the complete checkpoint.
        resume_s: from the start of `crikpy run` on the second machine until the job goes on.
        stood_still_s: from the last step on the first machine to the first on the second.
        memory_bytes: the checkpoint's images.
        stored_bytes: what the store took for them.
    """

    survived: bool = False
    job: str = ""
    processes: int | None = None
    steps_before: int = 0
    steps_after: int = 0
    lost_steps: int | None = None
    repeated_steps: int | None = None
    losses_identical: bool = False
    files_moved: bool = False
    notice_to_frozen_s: float | None = None
    notice_to_committed_s: float | None = None
    resume_s: float | None = None
    stood_still_s: float | None = None
    memory_bytes: int | None = None
    stored_bytes: int | None = None

    def compare(self, before: Steps, after: Steps, undisturbed: Steps, diary: Steps) -> None:
        """Look at the steps of both machines, of an undisturbed run, and in the file on the second machine."""
        moved = [*before, *after]
        numbers = [step["step"] for step in moved]
        self.steps_before, self.steps_after = len(before), len(after)
        self.lost_steps = len({step["step"] for step in undisturbed} - set(numbers))
        self.repeated_steps = len(numbers) - len(set(numbers))
        self.losses_identical = _losses(moved) == _losses(undisturbed)
        self.files_moved = list(diary) == moved
        self.survived = (
            self.steps_before > 0
            and self.steps_after > 0
            and self.lost_steps == self.repeated_steps == 0
            and self.losses_identical
            and self.files_moved
        )

    def sentence(self) -> str:
        """Say what has come out."""
        if self.survived:
            count = self.steps_before + self.steps_after
            return f"{count} losses, bit for bit those of an undisturbed run: none lost, none repeated"
        faults = {
            f"{self.lost_steps} steps lost": self.lost_steps,
            f"{self.repeated_steps} steps repeated": self.repeated_steps,
            "the losses are not those of an undisturbed run": not self.losses_identical,
            "the job's file is not whole": not self.files_moved,
        }
        return f"NOT survived: {', '.join(fault for fault, found in faults.items() if found)}"

    def line(self) -> str:
        """Return one JSON object on one line."""
        return json.dumps(
            {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}
        )


def _losses(steps: Steps) -> list[tuple[int, str]]:
    return [(step["step"], step["loss"]) for step in steps]


def draw(before: Steps, after: Steps, undisturbed: Steps, stood_still_s: float, path: Path) -> None:
    """Draw the losses across the move into a PNG."""
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for steps, style in (
        (undisturbed, {"color": "0.75", "linewidth": 5, "label": "undisturbed run, same seed"}),
        (before, {"color": "tab:blue", "label": f"{before[0]['host']}, until its spot interruption"}),
        (after, {"color": "tab:orange", "label": f"{after[0]['host']}, resumed"}),
    ):
        axes.plot([step["step"] for step in steps], [float.fromhex(step["loss"]) for step in steps], **style)
    move = (before[-1]["step"] + after[0]["step"]) / 2
    axes.axvline(move, color="0.3", linestyle=":")
    note = f"moved after step {before[-1]['step']},\nstood still for {stood_still_s:.1f} s"
    axes.annotate(
        note, (move, 0.97), xytext=(6, 0), textcoords="offset points", xycoords=("data", "axes fraction"), va="top"
    )
    axes.set(xlabel="step", ylabel="loss", title="One training job, two machines")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left", frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
