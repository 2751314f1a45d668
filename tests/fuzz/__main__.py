"""Runs one fuzzer; hack/fuzz calls it.

python -m tests.fuzz TARGET [OPTION...]      with libFuzzer's options
python -m tests.fuzz --list                  name the targets
python -m tests.fuzz --seeds TARGET FOLDER   write what the target begins with
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path


def main() -> None:
    """Fuzz until the time is up or something is found."""
    match sys.argv[1:]:
        case ["--list"]:
            from tests.fuzz.targets import TARGETS

            print("\n".join(TARGETS))
        case ["--seeds", target, folder]:
            from tests.fuzz.seeds import seeds

            for seed in seeds(target):
                (Path(folder) / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
        case [target, *options] if not target.startswith("-"):
            _fuzz(target, options)
        case _:
            sys.exit(__doc__)


def _fuzz(target: str, options: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["crikpy"]):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *options], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
