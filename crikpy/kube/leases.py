"""Leadership among several replicas by a Lease (coordination.k8s.io/v1), as client-go's leader election does it.

At most one leads, also when the API server is away or clocks differ: a leader that could not renew in time has
stopped acting before others may take over. Nobody compares clocks: a Lease has run out for a candidate that has
watched it unchanged for as long as it says that it lasts. Times in it are for people.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.aio.tasks import stop
from crikpy.errors import KubeConflictError, KubeError, KubeNotFoundError
from crikpy.kube.api import KubeApi
from crikpy.kube.raw import Json
from crikpy.kube.resources import LEASES
from crikpy.metrics import Metrics

_log = logging.getLogger(__name__)

_RENEW_PART: Final = 2 / 3
"""Part of the Lease's life within which it must have been renewed; the rest is for `act` to end."""

_RETRY_PART: Final = 2 / 15
"""Part of the Lease's life between two attempts; client-go's 2 s of 15."""

_ATTEMPT_PART: Final = 1 / 3
"""Part of the Lease's life that one attempt may take, so that a lost answer leaves time for another."""

_RELEASE_S: Final = 2.0
"""Longest time for giving the Lease up."""


class Leadership:
    """One candidate.

    Attributes:
        leading: whether it leads now.
        holder: what it writes into the Lease: the identity and something that no other process has.
    """

    def __init__(
        self, api: KubeApi, *, namespace: str, name: str, identity: str, lease_s: float, metrics: Metrics
    ) -> None:
        self.holder = f"{identity}_{uuid.uuid4().hex[:8]}"
        self.leading = False
        self._api = api
        self._namespace = namespace
        self._name = name
        self._lease_s = lease_s
        self._metrics = metrics
        self._seen: tuple[object, ...] = ()
        self._runs_out = Deadline.after(0)
        metrics.leading.set(0)

    async def lead(self, act: Callable[[], Awaitable[None]]) -> None:
        """Stand for election for ever and run `act` whenever elected.

        When the leadership is lost, `act` is cancelled and awaited, and the candidate stands again. `act` must
        end within a third of `lease_s` of its cancellation. Cancelling this gives the lease up at once, after
        `act` has ended. Returns only when `act` returns by itself, and raises what it raises; the lease is given
        up then.
        """
        while True:
            limit = await self._be_elected()
            if await self._reign(act, limit):
                return

    async def _be_elected(self) -> Deadline:
        """Try until the Lease is ours; returns when it must have been renewed."""
        told = ""
        while True:
            limit = self._renewal_limit()
            try:
                if await self._acquire(Deadline.after(self._lease_s * _ATTEMPT_PART)):
                    return limit
                told = ""
            except KubeConflictError:
                pass  # another candidate was faster
            except KubeError as fault:
                if type(fault).__name__ != told:
                    _log.warning("nobody can be elected for now: %s", fault)
                told = type(fault).__name__
            await asyncio.sleep(self._pause_s())

    async def _reign(self, act: Callable[[], Awaitable[None]], limit: Deadline) -> bool:
        """Act and renew until one of them ends; returns whether `act` came to its own end."""
        _log.info("%s leads", self.holder)
        self._set_leading(leading=True)
        acting = asyncio.create_task(_run(act))
        renewing = asyncio.create_task(self._renew(limit))
        try:
            await asyncio.wait({acting, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if not acting.done():
                return False
            await acting
            return True
        finally:
            # The Lease is renewed until the act has ended, and nobody else gets it before.
            if not acting.done():
                await stop(acting)
            self._set_leading(leading=False)
            if not renewing.done():
                await stop(renewing)
                await self._release()

    async def _renew(self, limit: Deadline) -> None:
        """Renew the Lease again and again; returns when it is lost. Any failure counts as not renewed."""
        fault: Exception | None = None
        while True:
            await asyncio.sleep(min(self._pause_s(), limit.remaining()))
            if limit.expired():
                _log.warning("%s no longer leads: the lease could not be renewed: %s", self.holder, fault)
                return
            following = self._renewal_limit()
            try:
                async with asyncio.timeout(limit.remaining()):
                    ours = await self._acquire(limit.earlier(self._lease_s * _ATTEMPT_PART))
            except Exception as failure:  # noqa: BLE001 - whatever it is, the Lease was not renewed
                fault = failure
                continue
            if not ours:
                _log.warning("%s no longer leads: another took the lease", self.holder)
                return
            limit = following

    async def _acquire(self, limit: Deadline) -> bool:
        """Take or renew the Lease once; returns whether it is ours now.

        Raises:
            KubeConflictError: somebody else wrote it at the same moment.
            KubeError: otherwise nobody knows.
        """
        now = _now()
        mine = {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": math.ceil(self._lease_s),
            "renewTime": now,
        }
        try:
            lease = await self._api.get(LEASES, self._name, namespace=self._namespace, deadline=limit)
        except KubeNotFoundError:
            body = {
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": {**mine, "acquireTime": now, "leaseTransitions": 0},
            }
            await self._api.create(LEASES, body, namespace=self._namespace, deadline=limit)
            return True
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") != self.holder:
            if not self._has_run_out(spec):
                return False
            mine |= {"acquireTime": now, "leaseTransitions": (spec.get("leaseTransitions") or 0) + 1}
        await self._api.replace(
            LEASES, self._name, {**lease, "spec": {**spec, **mine}}, namespace=self._namespace, deadline=limit
        )
        return True

    def _has_run_out(self, spec: Json) -> bool:
        """Say whether another's Lease was seen unchanged for as long as it lasts, or was given up."""
        if not spec.get("holderIdentity"):
            return True
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen = seen
            self._runs_out = Deadline.after(float(spec.get("leaseDurationSeconds") or self._lease_s))
        return self._runs_out.expired()

    async def _release(self) -> None:
        """Let others be elected at once; that the Lease runs out does it too, later."""
        limit = Deadline.after(_RELEASE_S)
        try:
            lease = await self._api.get(LEASES, self._name, namespace=self._namespace, deadline=limit)
            spec = lease.get("spec") or {}
            if spec.get("holderIdentity") == self.holder:
                given_up = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                await self._api.replace(
                    LEASES, self._name, {**lease, "spec": given_up}, namespace=self._namespace, deadline=limit
                )
        except KubeError as fault:
            _log.info("%s could not give the lease up; it runs out by itself: %s", self.holder, fault)

    def _set_leading(self, *, leading: bool) -> None:
        self.leading = leading
        self._metrics.leading.set(1 if leading else 0)

    def _renewal_limit(self) -> Deadline:
        """Return when a Lease that is written from now on must have been written again."""
        return Deadline.after(self._lease_s * _RENEW_PART)

    def _pause_s(self) -> float:
        return self._lease_s * _RETRY_PART * random.uniform(1.0, 1.2)  # noqa: S311 - keeps no secret


async def _run(act: Callable[[], Awaitable[None]]) -> None:
    await act()


def _now() -> str:
    """Return the time as metav1.MicroTime wants it: always six digits."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
