"""All workloads of the matrix, in the order of the page."""

from __future__ import annotations

from catalogue import languages, mechanisms, media, pydata, science, servers, shells, tools, training
from catalogue.describing import Group, Workload

GROUPS: tuple[Group, ...] = (
    shells.GROUP,
    languages.GROUP,
    training.GROUP,
    pydata.GROUP,
    science.GROUP,
    media.GROUP,
    servers.GROUP,
    mechanisms.GROUP,
    tools.GROUP,
)

WORKLOADS: dict[str, Workload] = {workload.name: workload for group in GROUPS for workload in group.workloads}
