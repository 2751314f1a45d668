"""Small records beside the checkpoints: who resumed one, why it must not be used, who holds a job's name.

docs/formats.md, "Records", is the authority for their bytes: one JSON object each, unknown fields ignored.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from crikpy.model.manifest import Sizes

FINISHED = "finished"
RESUMED = "resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Somebody's hand on something that only one may have.

    Attributes:
        host: host name.
        instance: EC2 instance id, or empty.
        boot_id: /proc/sys/kernel/random/boot_id.
        pid: PID of the crikpy process, as its machine sees it.
        time: RFC 3339 time in UTC.
        token: random, so that no two claims are the same bytes.
        outcome: what a claimed checkpoint came to: `resumed`, or `finished` when its job needs it no more.
    """

    host: str
    instance: str
    boot_id: str
    pid: int
    time: str
    token: str
    outcome: str = RESUMED

    @classmethod
    def ours(cls, *, instance: str = "") -> Claim:
        """Return a new claim of this process."""
        return cls(
            host=os.uname().nodename,
            instance=instance,
            boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            pid=os.getpid(),
            time=now(),
            token=secrets.token_hex(8),
        )

    def anew(self) -> Claim:
        """Return a claim of the same process that is told from this one by its token."""
        return replace(self, time=now(), token=secrets.token_hex(8))

    def finished(self) -> Claim:
        """Return the claim that a finished job lays on what it leaves behind."""
        return replace(self, time=now(), outcome=FINISHED)

    def __str__(self) -> str:
        where = f"{self.host} ({self.instance})" if self.instance else self.host
        return f"{where}, PID {self.pid}, since {self.time}"


UNREADABLE = Claim(host="somebody unreadable", instance="", boot_id="", pid=0, time="an unknown time", token="")
"""Stands for a claim whose bytes are damaged: that there is one is what counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Why a checkpoint is never used again.

    Attributes:
        reason: one line for people.
        time: RFC 3339 time in UTC.
    """

    reason: str
    time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a job's name.

    Attributes:
        claim: who, and since when.
        beat: number of renewals so far, so that each one changes the object.
        ttl_s: seconds without a renewal after which others may take the name.
        released: whether it was given back in order.
    """

    claim: Claim
    beat: int
    ttl_s: float
    released: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSummary:
    """What a listing shows of one checkpoint.

    Attributes:
        id: the checkpoint's id.
        complete: whether its manifest stands.
        created: RFC 3339 time of the commit; empty unless the manifest is readable.
        host: where it was taken; empty unless the manifest is readable.
        trigger: why it was taken; empty unless the manifest is readable.
        pod: `namespace/name` of the pod that was saved; empty unless there was one and the manifest is readable.
        pod_uid: that pod's UID; empty likewise.
        together: names of the workloads that were saved as one; empty for a job alone.
        group: name of the group of pods that was saved as one, or empty.
        set: id of that group's set; empty likewise.
        sizes: how large it is; None unless the manifest is readable.
        claim: who resumed it, if anybody.
        quarantine: why it must not be used, if so.
        fault: why its manifest cannot be read; empty when it can or there is none.
    """

    id: str
    complete: bool
    created: str = ""
    host: str = ""
    trigger: str = ""
    pod: str = ""
    pod_uid: str = ""
    together: tuple[str, ...] = ()
    group: str = ""
    set: str = ""
    sizes: Sizes | None = None
    claim: Claim | None = None
    quarantine: Quarantine | None = None
    fault: str = ""

    @property
    def resumable(self) -> bool:
        """Whether it may be resumed, as far as the store can tell."""
        return self.complete and not (self.fault or self.claim or self.quarantine)


def now() -> str:
    """Return the time as records carry it: RFC 3339, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
