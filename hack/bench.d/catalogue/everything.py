"""All workloads of the matrix, in the order of the page."""

from __future__ import annotations

from catalogue import pydata, shells, training
from catalogue.describing import Group, Workload

GROUPS: tuple[Group, ...] = (shells.GROUP, training.GROUP, pydata.GROUP)

WORKLOADS: dict[str, Workload] = {workload.name: workload for group in GROUPS for workload in group.workloads}
