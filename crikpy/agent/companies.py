"""The groups of this node's pods: what ties one save or restore to those of other pods, and the room they share.

A member waits for others in a thread of its own and without room; what it waits for may need the room itself. It
has room only as long as it reads, stores or restores, and nobody who has it waits for another member.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Final

from crikpy.aio.clock import Deadline
from crikpy.errors import CrikpyError, DeadlineError
from crikpy.flows.company import Hear, Patience, Together
from crikpy.model.groups import GroupOrder, Question, abandoned
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.records import now
from crikpy.store.sets import GroupSets, SetRecord, Talk

_log = logging.getLogger(__name__)

MOST_MEMBERS_HERE: Final = 64
"""Threads for members of groups on one node, which wait for each other."""


class Room:
    """Room for so many transfers at once, for threads."""

    def __init__(self, at_once: int) -> None:
        self._free = threading.BoundedSemaphore(at_once)

    @contextlib.contextmanager
    def __call__(self, deadline: Deadline) -> Iterator[None]:
        """Have room for one transfer.

        Raises:
            DeadlineError: there is none in time.
        """
        if not self._free.acquire(timeout=deadline.remaining()):
            raise DeadlineError("out of time while waiting for room on the node")
        try:
            yield
        finally:
            self._free.release()


class Companies:
    """Makes company for this node's saves and restores."""

    def __init__(self, store: ObjectStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        agent = settings.agent
        self.patience = Patience(wait_s=agent.group_wait_s, silence_s=agent.group_silence_s)

    def talk(self, namespace: str, group: str, set_id: str) -> Talk:
        """Return what is said about a set.

        Raises:
            UsageError: a name cannot be part of a key of the store.
        """
        cluster = self._settings.kube.cluster
        return GroupSets(self._store, cluster=cluster, namespace=namespace, group=group).of(set_id)

    def saving(
        self,
        group: GroupOrder,
        *,
        namespace: str,
        pod_uid: str,
        pod: str,
        deadline: Deadline,
        moves: bool,
        room: Room,
        hear: Hear,
    ) -> Together:
        """Return the company in which a pod is saved.

        Raises:
            UsageError: a name cannot be part of a key of the store.
        """
        return Together(
            self.talk(namespace, group.name, group.set_id),
            SetRecord(group=group.name, members=group.members, moves=moves, time=now()),
            me=pod_uid,
            pod=pod,
            deadline=deadline,
            patience=self.patience,
            room=room,
            hear=hear,
        )

    def renounce(self, namespace: str, group: GroupOrder, pod: str, reason: str) -> None:
        """Have the others of a set not wait for a pod that is not saved; asks the store once, never raises."""
        try:
            self.talk(namespace, group.name, group.set_id).decide(Question.SAVED, abandoned(pod, reason))
        except CrikpyError as fault:
            _log.warning("the others of group %s were not told: %s", group.name, fault)
