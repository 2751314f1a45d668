"""What is tried again and again: one job, saved or resumed while something goes wrong, and what must be true then.

After a save, whatever went wrong: the job has ended and can be resumed, once and where it was; or it runs on as if
nothing had been, nobody can resume it a second time, and it can still be saved. After a restore: the job goes on,
and cannot be resumed once more; or its capsule is empty, and the job starts in it from its beginning.
"""

from __future__ import annotations

import pytest

from crikpy import names
from crikpy.capsule.launcher import LauncherConnection
from crikpy.errors import CheckpointClaimedError, CrikpyError
from crikpy.model.manifest import Manifest
from crikpy.store.base import ObjectStore
from tests.chaos.s3 import Trouble, Troubles
from tests.integration.capsules import JobCapsule
from tests.integration.moving import Bench, Story

SAVED = "saved"
RESUMED = "resumed"
WITHIN_S = 5.0
"""Deadline of what is done while something goes wrong."""


class Subject:
    """A bench with two ways to its store.

    Attributes:
        bench: its store is the sound one.
        shaky: the store with trouble.
        troubles: what is wrong with it.
    """

    def __init__(self, bench: Bench, shaky: ObjectStore, troubles: Troubles) -> None:
        self.bench = bench
        self.shaky = shaky
        self.troubles = troubles

    def save(
        self, job: JobCapsule, *troubles: Trouble, story: Story | None = None, within_s: float = WITHIN_S
    ) -> str:
        """Save a job while there is trouble; return what came of it: saved, or the error's name."""
        self.troubles.begin(*troubles)
        try:
            self.bench.save(job, story, store=self.shaky, within_s=within_s)
        except CrikpyError as fault:
            return type(fault).__name__
        finally:
            self.troubles.end()
        return SAVED

    def check_saved(self, job: JobCapsule, outcome: str) -> None:
        """See that a job has lost nothing, whatever came of saving it."""
        checkpoints = self.bench.checkpoints
        if outcome == SAVED:
            assert job.wait() == names.EXIT_CHECKPOINTED
            manifest = checkpoints.newest_resumable()
            assert manifest is not None
        else:
            job.prove()
            assert checkpoints.newest_resumable() is None, "it runs, and somebody else could resume it"
            manifest = self.bench.save(job)
            assert job.wait() == names.EXIT_CHECKPOINTED
        resumed = self.bench.resume(manifest)
        resumed.prove()
        self.check_used_up(manifest)
        assert resumed.finish() == 0

    def resume(self, manifest: Manifest, *troubles: Trouble, within_s: float = WITHIN_S) -> str:
        """Resume a checkpoint while there is trouble, and see that the job has lost nothing but its place."""
        capsule = self.bench.vacant()
        with capsule.held() as launcher:
            outcome = self._restore(manifest, capsule, launcher, troubles, within_s)
            if outcome != RESUMED:
                assert capsule.members() == {}, "something was left in the capsule"
                capsule.start(launcher)
        if outcome != RESUMED:
            capsule.expect("ready")
        capsule.prove()
        if outcome == RESUMED:
            self.check_used_up(manifest)
        else:
            self._check_given_up(manifest)
        assert capsule.finish() == 0
        return outcome

    def _restore(
        self,
        manifest: Manifest,
        capsule: JobCapsule,
        launcher: LauncherConnection,
        troubles: tuple[Trouble, ...],
        within_s: float,
    ) -> str:
        self.troubles.begin(*troubles)
        try:
            self.bench.restore(manifest, capsule, launcher, store=self.shaky, within_s=within_s)
        except CrikpyError as fault:
            return type(fault).__name__
        finally:
            self.troubles.end()
        return RESUMED

    def check_used_up(self, manifest: Manifest) -> None:
        """See that nobody resumes a checkpoint once more."""
        capsule = self.bench.vacant()
        with capsule.held() as launcher:
            with pytest.raises(CheckpointClaimedError):
                self.bench.restore(manifest, capsule, launcher)
            assert capsule.members() == {}
            capsule.start(launcher)
        capsule.expect("ready")
        assert capsule.finish() == 0

    def _check_given_up(self, manifest: Manifest) -> None:
        """See that a checkpoint that could not be resumed was claimed, or that nobody ever got so far."""
        summary = self.bench.checkpoints.summary(manifest.checkpoint)
        resumable = self.bench.checkpoints.newest_resumable()
        assert (resumable is None) == (summary.claim is not None or summary.quarantine is not None)
