"""Find the one checkpoint that a command is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from crikpy.cli.console import group_options, store_option, workload_of
from crikpy.cli.output import output_option
from crikpy.errors import CheckpointNotFoundError
from crikpy.model.manifest import Manifest
from crikpy.model.workload import Workload
from crikpy.settings import Settings
from crikpy.store.base import ObjectStore
from crikpy.store.checkpoints import Checkpoints
from crikpy.store.opening import open_store
from crikpy.store.records import CheckpointSummary

_F = TypeVar("_F", bound=Callable[..., Any])


def checkpoint_options(command: _F) -> _F:
    """Give a command NAME, an optional CHECKPOINT, and the options that say where to look."""
    command = output_option(group_options(store_option(command)))
    command = click.argument("identity", required=False, metavar="[CHECKPOINT]")(command)
    return click.argument("name")(command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """A checkpoint and where it is."""

    store: ObjectStore
    workload: Workload
    checkpoints: Checkpoints
    summary: CheckpointSummary

    def manifest(self) -> Manifest:
        """Return its manifest; raises what Checkpoints.manifest does."""
        return self.checkpoints.manifest(self.summary.id)


def select(
    settings: Settings, *, name: str, identity: str | None, store_url: str, cluster: str, namespace: str
) -> Selected:
    """Return the named checkpoint, or the newest complete one of the job.

    Raises:
        CheckpointNotFoundError: there is none.
    """
    workload = workload_of(cluster, namespace, name)
    store = open_store(store_url, settings.store)
    checkpoints = Checkpoints(store, workload)
    summary = checkpoints.summary(identity) if identity else checkpoints.newest_complete()
    if summary is None:
        raise CheckpointNotFoundError(
            f"{store_url} holds no complete checkpoint of {workload}",
            remedy=f"`crikpy list --store {store_url}` shows what there is",
        )
    return Selected(store=store, workload=workload, checkpoints=checkpoints, summary=summary)
