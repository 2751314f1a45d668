"""The matrix of workloads: real programs, each saved in mid-work and resumed in another container."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import layering
import tabling
from catalogue.describing import Workload
from catalogue.everything import WORKLOADS
from measuring import machine
from trying import Outcome, TrialError, tell, try_out

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from crikpy import settings
from crikpy.errors import CrikpyError


def keep(name: str, outcome: Outcome) -> None:
    """Keep what came of a workload and make the page, unless CRIKPY_BENCH_KEEP is `no`.

    Workloads that are no more are forgotten.
    """
    if os.environ.get("CRIKPY_BENCH_KEEP") == "no":
        return
    path = tabling.RESULTS
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[name] = asdict(outcome)
    kept = {key: kept[key] for key in sorted(kept) if key in WORKLOADS}
    path.write_text(json.dumps(kept, indent=1) + "\n")
    tabling.PAGE.write_text(tabling.render(kept))


def run(workloads: Sequence[Workload], *, on_this_machine: bool) -> int:
    """Try workloads one after another; return how many came out otherwise than expected."""
    here = settings.from_env(os.environ)
    surprises = 0
    for workload in workloads:
        began = time.monotonic()
        try:
            lower = (
                [layering.MACHINE] if on_this_machine else layering.lower_of(workload.packages, workload.python)
            )
            outcome = try_out(workload, lower, here, machine())
        except (TrialError, CrikpyError, subprocess.SubprocessError) as fault:
            tell(fault)
            print(f"{workload.name}: no trial: {fault}", flush=True)
            surprises += 1
            continue
        keep(workload.name, outcome)
        mark = "" if outcome.verdict == workload.awaited else f" (expected: {workload.awaited})"
        surprises += bool(mark)
        print(
            f"{workload.name}: {outcome.verdict}{mark} [{time.monotonic() - began:.0f} s] {outcome.why}",
            flush=True,
        )
    return surprises


def main() -> None:
    """Try the workloads that were named, or all."""
    parser = argparse.ArgumentParser(prog="hack/bench workloads", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a workload; all of them unless named")
    parser.add_argument("--list", action="store_true", help="print their names and end")
    parser.add_argument(
        "--on-this-machine", action="store_true", help="use this machine's root instead of an image; keep nothing"
    )
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    if chosen.list:
        print("\n".join(WORKLOADS))
        return
    if chosen.on_this_machine:
        os.environ["CRIKPY_BENCH_KEEP"] = "no"
    wanted = [workload for name, workload in WORKLOADS.items() if not chosen.names or name in chosen.names]
    surprises = run(wanted, on_this_machine=chosen.on_this_machine)
    sys.exit(f"{surprises} of {len(wanted)} came out otherwise than expected" if surprises else 0)


if __name__ == "__main__":
    main()
