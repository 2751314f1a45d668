"""A job that changes files all over its container: new, changed and removed ones, in memory and on disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.jobs import proving


def main() -> None:
    """Change what the arguments name: a file to remove if there is one, then directories to write into."""
    removed, *folders = map(Path, sys.argv[1:])
    removed.unlink(missing_ok=True)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "written").write_text(str(folder))
        (folder / "written").chmod(0o640)
        os.utime(folder / "written", (1_000_000_000, 1_000_000_000))
        (folder / "link").symlink_to("written")

    def prove(count: int) -> None:
        proving.check_equal(removed.exists(), False, "the removed file")
        for folder in folders:
            about = (folder / "written").stat()
            proving.check_equal((folder / "link").read_text(), str(folder), "content")
            proving.check_equal((about.st_mode & 0o777, about.st_mtime), (0o640, 1_000_000_000), "mode and time")

    proving.stand_by(prove)


if __name__ == "__main__":
    main()
