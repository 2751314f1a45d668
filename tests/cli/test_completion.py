"""Completion as shells and kubectl ask for it, by the programs that are installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.machines import PROGRAM
from tests.cli.shelf import Typist
from tests.integration.capsules import PATIENCE_S

_FOR_KUBECTL = PROGRAM.with_name("kubectl_complete-crikpy")


def answer(*words: str | Path, **changes: str) -> str:
    done = subprocess.run(
        words, env={**os.environ, **changes}, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    return done.stdout


def test_bash_completes_by_what_is_printed() -> None:
    program = f"""
        PATH={PROGRAM.parent}:$PATH
        source <(crikpy completion bash)
        COMP_WORDS=(crikpy verif) COMP_CWORD=1
        _crikpy_completion crikpy
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert answer("bash", "-c", program).split() == ["verify"]


@pytest.mark.parametrize(("shell", "sign"), [("zsh", "#compdef crikpy"), ("fish", "complete --no-files")])
def test_other_shells_are_given_theirs(shell: str, sign: str, typed: Typist) -> None:
    told = typed("completion", shell)
    assert (told.status, told.err) == (0, "")
    assert sign in told.out
    assert "_CRIKPY_COMPLETE" in told.out


def test_kubectl_is_answered_in_its_own_way() -> None:
    assert answer(_FOR_KUBECTL, "list", "--output", "").splitlines() == ["table", "json", "yaml", ":4"]
    assert answer(_FOR_KUBECTL, "verif").splitlines()[0].split("\t")[0] == "verify"
    assert answer(_FOR_KUBECTL, "run", "--carry", "").splitlines() == [":0"]
