"""Counts its proofs, and saves itself: asked by SIGTERM it writes its count and ends, or by crikpy.job it answers.

    selfsaving DIRECTORY [call|once|deaf|late|worse|empty|packets|ghost]...

`call` uses crikpy.job instead of the signal, `once` ends with status 3 when that calls it again, `deaf` handles
nothing, `late` takes longer than there is time, `worse` ends with a status that says that it has failed, `empty`
leaves nothing, `packets` has something open that CRIU cannot save, `ghost` a file without a name.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from crikpy import job
from tests.jobs import proving


def main() -> None:
    folder, how = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "count"
    count = int(kept.read_text()) if kept.exists() else 0
    beside = [0]  # lost when it begins again from its files
    # What CRIU refuses: see crikpy.capsule.preflight.
    packets = os.pipe2(os.O_DIRECT) if "packets" in how else ()
    ghost = tempfile.TemporaryFile() if "ghost" in how else None  # noqa: SIM115  # kept to the end

    def write() -> None:
        if "late" in how:
            time.sleep(5)
        if "empty" not in how:
            kept.write_text(str(count))

    def on_term(number: int, frame: object) -> None:
        write()
        proving.say("saved")
        os._exit(3 if "worse" in how else 0)

    def on_save(coming: job.Coming) -> None:
        if "once" in how and kept.exists():
            os._exit(3)
        if "worse" in how:
            raise OSError("no room")
        write()
        proving.say("saved")

    signal.pthread_sigmask(signal.SIG_BLOCK, {proving.ASK, proving.FINISH})
    if "call" in how:
        job.on_save(on_save)
        job.on_restore(lambda resumed: proving.say(f"heard {resumed.outcome}"))
    elif "deaf" not in how:
        signal.signal(signal.SIGTERM, on_term)
    proving.say(f"ready at {count}")
    # Unlike sigwait(), it lets the handler of another signal run.
    while signal.sigwaitinfo({proving.ASK, proving.FINISH}).si_signo == proving.ASK:
        count, beside[0] = count + 1, beside[0] + 1
        proving.say(f"proved {count} of {beside[0]}")
    for end in packets:
        os.close(end)
    if ghost is not None:
        ghost.close()


if __name__ == "__main__":
    main()
