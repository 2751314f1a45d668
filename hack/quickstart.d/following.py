"""Follows pages as their readers would: hack/quickstart tells how. Changes nothing in this checkout."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reading import Block, PageError, choose, read_blocks

ROOT = Path(__file__).resolve().parents[2]
SHELL = Path(__file__).with_name("shell.bash")
REPOSITORY = "https://github.com/crikpy/crikpy"
CLOUDLESS = [ROOT / "docs/quickstart-local.md"]
_TIDYING_S = 120.0
_VALUE = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def main() -> int:
    """Follow the pages; return the exit status."""
    given = _arguments()
    try:
        pages = {page: choose(read_blocks(page.read_text(encoding="utf-8")), given.only) for page in given.pages}
    except (OSError, UnicodeDecodeError) as fault:
        return _unusable(str(fault))
    except PageError as fault:
        return _unusable(str(fault))
    for page, blocks in pages.items():
        if not blocks:
            return _unusable(f"{_shown(page)} has no commands")
        if given.list:
            _list(page, blocks)
        elif not follow(page, blocks, given.set, timeout_s=given.timeout, keep=given.keep):
            return 1
    return 0


def follow(
    page: Path, blocks: Sequence[Block], values: Mapping[str, str], *, timeout_s: float, keep: bool
) -> bool:
    """Run a page's blocks in one shell, in an empty folder of their own; return whether all went well."""
    began = time.monotonic()
    with _folder(keep=keep) as work:
        scripts = _write(work / page.name, blocks)
        setting = work / "values"
        setting.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items()))
        place = work / "here"
        place.mkdir()
        argv = ["bash", "--norc", str(SHELL), _shown(page), str(setting), *map(str, scripts)]
        origin = work / "origin"
        if any(REPOSITORY in block.text for block in blocks):
            _offer(origin)
        status = _run(argv, place, _environment(origin), timeout_s)
    if status == 0:
        _say(f"{_shown(page)}: all {len(blocks)} blocks in {time.monotonic() - began:.0f} s")
    return status == 0


def _run(argv: Sequence[str], place: Path, environment: Mapping[str, str], timeout_s: float) -> int:
    """Run the shell; end what it leaves in its process group, and all of it when the time is up."""
    process = subprocess.Popen(
        argv, cwd=place, env=dict(environment), stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.wait(timeout_s)
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as fault:
        _say("interrupted" if isinstance(fault, KeyboardInterrupt) else f"not done within {timeout_s:.0f} s")
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(_TIDYING_S)
        return 1
    finally:
        _signal(process.pid, signal.SIGKILL)
        process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _write(folder: Path, blocks: Sequence[Block]) -> list[Path]:
    """Write each block into a file, every command in the line that it has on the page."""
    folder.mkdir()
    paths = []
    for number, block in enumerate(blocks, 1):
        path = folder / f"block-{number:02}{'.finally' if block.tidies else ''}"
        path.write_text("\n" * (block.line - 1) + block.text, encoding="utf-8")
        paths.append(path)
    return paths


def _offer(origin: Path) -> None:
    """Make a repository of what lies in this checkout, for the page to clone."""
    passing = ["-c", "core.compression=0", "-c", "core.fsync=none", "-c", "core.safecrlf=false"]
    git = ["git", f"--git-dir={origin}", f"--work-tree={ROOT}", *passing]
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", origin], check=True)
    subprocess.run([*git, "add", "--all"], check=True, cwd=ROOT)
    author = ["-c", "user.name=quickstart", "-c", "user.email=quickstart@invalid"]
    commit = ["commit", "--quiet", "--no-verify", "--no-gpg-sign", "--message=This checkout"]
    subprocess.run([*git, *author, *commit], check=True, cwd=ROOT)


def _environment(origin: Path) -> dict[str, str]:
    """Return a new user's environment: nothing of this checkout, and its repository where the project's is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CRIKPY_", "GIT_"))}
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "BASH_ENV"):
        kept.pop(name, None)
    folders = kept.get("PATH", os.defpath).split(os.pathsep)
    kept["PATH"] = os.pathsep.join(name for name in folders if not Path(name).is_relative_to(ROOT))
    kept |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{origin}.insteadOf"}
    return kept | {"GIT_CONFIG_VALUE_0": REPOSITORY}


@contextlib.contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="crikpy-quickstart-"))
    try:
        yield folder
    finally:
        if keep:
            _say(f"what it wrote is in {folder / 'here'}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _list(page: Path, blocks: Sequence[Block]) -> None:
    for block in blocks:
        print(f"# {_shown(page)}:{block.line}{' (also after a failure)' if block.tidies else ''}")
        print(block.text)


def _shown(page: Path) -> str:
    page = page.resolve()
    return str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else str(page)


def _say(what: str) -> None:
    print(f"quickstart: {what}", file=sys.stderr, flush=True)


def _unusable(why: str) -> int:
    _say(why)
    return 2


def _value(text: str) -> tuple[str, str]:
    found = _VALUE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not VARIABLE=VALUE")
    return found[1], found[2]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hack/quickstart", allow_abbrev=False)
    parser.add_argument("pages", nargs="*", type=Path, metavar="PAGE")
    parser.add_argument("--only", default="", metavar="NAME")
    parser.add_argument("--set", action="append", default=[], type=_value, metavar="VARIABLE=VALUE")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="S")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    given.pages = given.pages or CLOUDLESS
    given.set = dict(given.set)
    return given


if __name__ == "__main__":
    sys.exit(main())
