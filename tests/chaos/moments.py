"""Acts at moments of a save: what test modules share that have something happen at each of its steps."""

from __future__ import annotations

import threading
from collections.abc import Callable

from crikpy.errors import CrikpyError
from crikpy.model.manifest import Manifest
from tests.chaos.subject import SAVED
from tests.integration.capsules import JobCapsule
from tests.integration.moving import Bench, Story
from tests.integration.stores import WatchedStore

IN_STORE = ("started", "chunk", "manifest", "claim")
"""Moments at which the engine is about to write (or read) something; all others are events of the story."""


def once(act: Callable[[], object]) -> Callable[[], None]:
    """Return what acts the first time that it is called."""
    lock, done = threading.Lock(), False

    def first() -> None:
        nonlocal done
        with lock:
            if done:
                return
            done = True
        act()

    return first


def watched(bench: Bench, moment: str, act: Callable[[], object]) -> WatchedStore:
    """Return the bench's store, with something done once before this is written or read."""
    first = once(act)
    match moment:
        case "started":
            return WatchedStore(bench.store, before_started=first)
        case "chunk":
            return WatchedStore(bench.store, before_chunk=first)
        case "manifest":
            return WatchedStore(bench.store, before_manifest=first)
        case "claim":
            return WatchedStore(bench.store, before_claim=first)
    return WatchedStore(bench.store)


def at(bench: Bench, moment: str, act: Callable[[], object]) -> tuple[Story, WatchedStore]:
    """Have something done at a moment of a save."""
    store = watched(bench, moment, act)
    return Story() if moment in IN_STORE else Story(**{moment: once(act)}), store


def reading_memory(bench: Bench, manifest: Manifest, act: Callable[[], object]) -> WatchedStore:
    """Return the bench's store, with something done once before the first piece of a job's memory is read."""
    first = once(act)
    pages = [image for image in manifest.job_images if image.name.startswith("pages-")]
    chunks = {extent.chunk for image in pages for extent in image.extents}
    return WatchedStore(bench.store, before_read=lambda key: first() if key.rpartition("/")[2] in chunks else None)


def save(
    bench: Bench,
    job: JobCapsule,
    story: Story,
    store: WatchedStore,
    within_s: float = 20.0,
    *,
    leave_running: bool = False,
) -> str:
    """Save a job; return what came of it: saved, or the error's name."""
    try:
        bench.save(job, story, store=store, within_s=within_s, leave_running=leave_running)
    except CrikpyError as fault:
        return type(fault).__name__
    return SAVED


def gone(outcome: str) -> str:
    """Return what came of a job that has not outlived its save."""
    return "saved all the same" if outcome == SAVED else f"gone, and nothing of it can be resumed: `{outcome}`"
