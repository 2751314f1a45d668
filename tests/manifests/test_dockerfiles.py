"""The Dockerfiles share what they say they share, and see of the checkout what they need, whoever builds them."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = {
    "agent": "daemonset/Dockerfile",
    "controller": "controller/Dockerfile",
    "launcher": "daemonset/launcher/Dockerfile",
}
_SHARED = re.compile(r"# ---- the same in ([^\s,]+)[^\n]*\n(.*?)\n# ---- so far", re.DOTALL)
_UNPRIVILEGED = "USER 65532:65532"


def read(name: str) -> str:
    return (ROOT / DOCKERFILES[name]).read_text()


def shared(text: str) -> dict[str, str]:
    return dict(_SHARED.findall(text))


def copied(text: str) -> list[str]:
    """Return the paths of the checkout that are copied into an image or into one of its stages."""
    lines = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ")]
    return [path for words in lines if not words[0].startswith("--from") for path in words]


def last_stage(text: str) -> list[str]:
    return text[text.rindex("\nFROM ") + 1 :].splitlines()


@pytest.mark.parametrize("other", ["controller", "launcher"])
def test_what_two_dockerfiles_share_is_the_same_in_both(other: str) -> None:
    agent, theirs = shared(read("agent")), shared(read(other))
    assert theirs[DOCKERFILES["agent"]] == agent[DOCKERFILES[other]]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_docker_is_shown_all_that_is_copied(name: str) -> None:
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for path in copied(read(name)):
        assert any(path == kept or path.startswith(f"{kept}/") for kept in let_through), path


@pytest.mark.parametrize("name", DOCKERFILES)
def test_a_change_of_what_is_copied_builds_the_image_anew(name: str) -> None:
    script = f". {ROOT}/hack/images.d/building.bash; inputs {name}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=10, check=True)
    watched = done.stdout.splitlines()
    assert watched[0] == DOCKERFILES[name]
    for pattern in copied(read(name)):
        found = [str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)]
        assert found, f"{pattern} matches nothing"
        assert set(found) <= set(watched), f"{pattern}: hack/images does not look at all of it"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_nothing_is_built_or_installed_in_the_last_stage(name: str) -> None:
    assert not [line for line in last_stage(read(name)) if line.startswith(("RUN ", "ADD "))]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_nothing_is_installed_by_pip_but_by_hash_or_from_the_build_itself(name: str) -> None:
    text = re.sub(r"\s*\\\n\s*", " ", read(name))
    commands = [command for line in text.splitlines() for command in line.split("&&")]
    installing = [command for command in commands if re.search(r"pip.* install ", command)]
    assert len(installing) == (0 if name == "launcher" else 3)
    for command in installing:
        assert "--require-hashes" in command or "--no-index --no-deps" in command, command
        assert "--only-binary :all:" in command or "--no-index" in command, command


def test_a_base_is_pulled_by_its_digest_only() -> None:
    command: list[str | Path] = [ROOT / "hack/images", "build", "--base", "debian:13-slim", "launcher"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert done.returncode == 1
    assert "by its digest" in done.stderr


def test_only_the_agent_runs_as_root() -> None:
    users = {name: [line for line in last_stage(read(name)) if line.startswith("USER ")] for name in DOCKERFILES}
    assert users == {"agent": [], "controller": [_UNPRIVILEGED], "launcher": [_UNPRIVILEGED]}


def test_the_launchers_image_holds_nothing_but_the_launcher() -> None:
    stage = last_stage(read("launcher"))
    assert stage[0] == "FROM scratch"
    assert [line for line in stage if line.startswith("COPY ")] == ["COPY --from=launcher /out/launch /launch"]


@pytest.mark.parametrize("path", ["tests", ".git", "docs", "hack/demo"])
def test_docker_is_shown_nothing_else(path: str) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert not [line for line in lines if line.startswith("!") and fnmatch.fnmatch(path, line[1:])]
