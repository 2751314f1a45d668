"""`crikpy show`: what a checkpoint consists of and where it fits."""

from __future__ import annotations

import dataclasses

import click
from rich.console import Console

from crikpy.cli import colours
from crikpy.cli.helping import STORE_ENVIRONMENT, epilog
from crikpy.cli.list_cmd import state_of
from crikpy.cli.output import TABLE, print_data
from crikpy.cli.processes import memory_lines, process_table
from crikpy.cli.selecting import checkpoint_options, select
from crikpy.model.manifest import APPLICATION_MODE, Manifest
from crikpy.model.quantities import human_size
from crikpy.settings import Settings

_ALL_FILES = 20


@click.command(
    "show",
    short_help="Show a checkpoint: processes, memory, files, needs.",
    epilog=epilog(
        "crikpy show train-7 --store s3://my-bucket/jobs",
        "crikpy show train-7 20250131T120000Z-0123abcd --store /mnt/jobs -o yaml",
        environment=STORE_ENVIRONMENT,
    ),
)
@checkpoint_options
@click.pass_obj
def command(
    settings: Settings,
    name: str,
    identity: str | None,
    store_url: str,
    cluster: str,
    namespace: str,
    output: str,
) -> None:
    """Show a checkpoint of the job NAME: its processes, memory, files, sizes, and what it needs of a machine.

    Without CHECKPOINT it is the newest complete one.
    """
    selected = select(
        settings, name=name, identity=identity, store_url=store_url, cluster=cluster, namespace=namespace
    )
    manifest = selected.manifest()
    if output != TABLE:
        facts = dataclasses.asdict(manifest)
        facts["images"] = [{"name": image.name, "size": image.size} for image in manifest.images]
        print_data({**facts, "state": state_of(selected.summary)}, output)
        return
    console = colours.console()
    _show_head(console, manifest, state_of(selected.summary))
    for line in memory_lines(manifest):
        console.print(line, soft_wrap=True)
    if manifest.job.processes:
        console.print()
        console.print(process_table(manifest.job.processes))
        console.print()
    _show_files(console, manifest)


def _show_head(console: Console, manifest: Manifest, state: str) -> None:
    fit, sizes, origin = manifest.compatibility, manifest.sizes, manifest.origin
    notice = f" (notice {origin.notice})" if origin.notice else ""
    where = f"{origin.host} {origin.instance}".strip()
    rows = {
        "checkpoint": f"{manifest.checkpoint}, {state}",
        "job": manifest.workload,
        "command": " ".join(manifest.job.command),
        "taken": f"{manifest.created} on {where}, {origin.trigger}{notice}",
        "mode": "application: saved by the job itself" if manifest.mode == APPLICATION_MODE else manifest.mode,
        "stood still": f"{manifest.frozen_s:.2f} s",
        "size": f"{human_size(sizes.image_bytes)}, of it {human_size(sizes.zero_bytes)} zeros and "
        f"{human_size(sizes.reused_bytes)} stored before; {human_size(sizes.stored_bytes)} stored anew",
        "needs": f"{fit.architecture}, {fit.page_size // 1024} KiB pages, CRIU {fit.criu} or newer",
        **(
            {"on GPUs": f"{', '.join(fit.gpus.models)}, NVIDIA driver {fit.gpus.driver}"}
            if fit.gpus.driver
            else {}
        ),
        "taken with": f"kernel {fit.kernel}, {fit.cpu_model}, {len(fit.cpu_features)} CPU features",
        "format": f"{manifest.format}, written by crikpy {manifest.release}",
    }
    for name, value in rows.items():
        console.print(f"{name:<12} {value}", soft_wrap=True)


def _show_files(console: Console, manifest: Manifest) -> None:
    for archive in manifest.archives:
        console.print(f"carries {archive.entries} files below {archive.root} ({archive.kind})")
    needed = manifest.open_files
    console.print(f"needs {len(needed)} files of the machine, by size:")
    for file in needed[:_ALL_FILES]:
        console.print(f"  {file.size:>12}  {file.path}", soft_wrap=True)
    if len(needed) > _ALL_FILES:
        console.print(f"  and {len(needed) - _ALL_FILES} more; --output json shows all")
