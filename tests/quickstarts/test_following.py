"""hack/quickstart runs a page's commands word for word, in one shell, and names the first that fails."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def follow(page: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [ROOT / "hack/quickstart", *options, page]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=100)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.md"


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """Where a page's commands write what they did."""
    return tmp_path / "proof"


def test_blocks_share_one_shell_its_variables_and_its_folder(page: Path, proof: Path) -> None:
    page.write_text(
        '# A page\n\n```sh\nname=word\nmkdir deep\ncd deep\nsay() { echo "$name in ${PWD##*/}"; }\n```\n\n'
        f"Some words.\n\n1. In a list\n\n    ```sh\n    say >{proof}\n    ```\n"
    )
    done = follow(page)
    assert done.returncode == 0, done.stderr
    assert proof.read_text() == "word in deep\n"


def test_a_page_with_a_failing_block_fails_names_it_and_goes_no_further(page: Path, proof: Path) -> None:
    page.write_text(
        f"# A page\n\n```sh\necho one >{proof}\n```\n\n```sh\ntrue\nfalse\ntrue\n```\n\n"
        f"```sh\necho three >>{proof}\n```\n"
    )
    done = follow(page)
    assert done.returncode == 1
    assert f"{page}:8, line 9: false" in done.stderr
    assert proof.read_text() == "one\n"


@pytest.mark.parametrize("command", ["echo $no_such_variable", "false | true", "exit 0", "no-such-command"])
def test_what_would_pass_unseen_fails_as_well(page: Path, command: str) -> None:
    page.write_text(f"```sh\n{command}\n```\n")
    done = follow(page)
    assert done.returncode == 1
    assert f"FAILED with status {done.stderr.partition('with status ')[2].split()[0]}" in done.stderr
    assert f"{page}:2" in done.stderr


def test_only_blocks_marked_as_commands_are_run(page: Path, proof: Path) -> None:
    others = "".join(f"```{word}\ntouch {proof}\n```\n\n" for word in ("", "console", "yaml", "bash", "shell"))
    page.write_text(f"{others}    touch {proof}\n\n~~~sh\ntrue\n~~~\n")
    done = follow(page)
    assert done.returncode == 0, done.stderr
    assert not proof.exists()


def test_given_values_count_from_the_end_of_the_block_that_sets_them(page: Path, proof: Path) -> None:
    page.write_text(
        f"```sh\nexport BUCKET=my-bucket OTHER=kept\necho $BUCKET >{proof}\n```\n\n"
        f"```sh\nsh -c 'echo \"$BUCKET $OTHER\"' >>{proof}\n```\n"
    )
    done = follow(page, "--set", "BUCKET=one that's real")
    assert done.returncode == 0, done.stderr
    assert proof.read_text() == "my-bucket\none that's real kept\n"


def test_of_blocks_for_one_or_the_other_the_first_is_taken_unless_it_is_said_which(
    page: Path, proof: Path
) -> None:
    either = "".join(
        f"<!-- quickstart: only {name} -->\n```sh\necho {name} >>{proof}\n```\n\n" for name in ("kind", "k3s")
    )
    page.write_text(f"{either}```sh\necho all >>{proof}\n```\n")
    for options, expected in ((), "kind\nall\n"), (("--only", "k3s"), "k3s\nall\n"):
        proof.unlink(missing_ok=True)
        assert follow(page, *options).returncode == 0
        assert proof.read_text() == expected
    refused = follow(page, "--only", "minikube")
    assert refused.returncode == 2
    assert "has nothing for minikube, but for kind, k3s" in refused.stderr


def test_what_tidies_up_is_run_after_a_failure_too_with_the_page_s_variables(page: Path, proof: Path) -> None:
    page.write_text(
        f"```sh\nname=word\n```\n\n```sh\nfalse\n```\n\n```sh\ntouch {proof}.no\n```\n\n"
        f"<!-- quickstart: finally -->\n```sh\nfalse\necho $name >{proof}\n```\n"
    )
    assert follow(page).returncode == 1
    assert proof.read_text() == "word\n"
    assert not proof.with_name("proof.no").exists()


def test_a_page_gets_this_checkout_where_it_clones_the_project_and_cannot_change_it(
    page: Path, proof: Path
) -> None:
    page.write_text(
        "```sh\ngit clone https://github.com/crikpy/crikpy && cd crikpy\n```\n\n"
        f"```sh\ncp README.md {proof}\necho changed >README.md\n```\n"
    )
    before = (ROOT / "README.md").read_bytes()
    done = follow(page)
    assert done.returncode == 0, done.stderr
    assert proof.read_bytes() == (ROOT / "README.md").read_bytes() == before


def test_nothing_of_this_checkout_or_its_settings_reaches_the_page(
    page: Path, proof: Path, tmp_path: Path
) -> None:
    page.write_text(f'```sh\n{{ env; echo "files: $(ls -A)"; cat; }} >{proof}\n```\n')
    (tmp_path / "bin").mkdir()
    path = f"{tmp_path / 'bin'}:{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    done = follow(page, CRIKPY_STORE="s3://mine", VIRTUAL_ENV=str(ROOT / ".venv"), PATH=path, AWS_REGION="here")
    assert done.returncode == 0, done.stderr
    said = dict(line.partition("=")[::2] for line in proof.read_text().splitlines() if "=" in line)
    assert not [name for name in said if name.startswith("CRIKPY_") or name == "VIRTUAL_ENV"]
    assert said["PATH"].split(":")[0] == str(tmp_path / "bin")
    assert str(ROOT) not in said["PATH"]
    assert said["AWS_REGION"] == "here"
    assert proof.read_text().endswith("files: \n")


def test_what_never_ends_is_ended_and_tidied_up_after(page: Path, proof: Path) -> None:
    page.write_text(
        f"```sh\nsleep 300 &\necho $! >{proof}\nwait\n```\n\n"
        f"<!-- quickstart: finally -->\n```sh\ntouch {proof}.tidied\n```\n"
    )
    done = follow(page, "--timeout", "3")
    assert done.returncode == 1
    assert "not done within 3 s" in done.stderr
    assert proof.with_name("proof.tidied").exists()
    left = Path("/proc") / proof.read_text().strip() / "stat"
    deadline = time.monotonic() + 10
    while left.exists() and left.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left.exists() or left.read_text().rpartition(")")[2].split()[0] == "Z"


def test_its_folder_is_gone_afterwards_unless_it_is_to_be_kept(page: Path, tmp_path: Path) -> None:
    page.write_text("```sh\necho here >made\n```\n")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    assert follow(page, TMPDIR=str(temporary)).returncode == 0
    assert not list(temporary.iterdir())
    assert follow(page, "--keep", TMPDIR=str(temporary)).returncode == 0
    assert [path.read_text() for path in temporary.glob("*/here/made")] == ["here\n"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("# No commands\n", "has no commands"),
        ("<!-- quickstart: sometimes -->\n```sh\ntrue\n```\n", "line 3: nothing is known of the mark 'sometimes'"),
        (
            "<!-- quickstart: finally -->\n\nWords.\n\n```sh\ntrue\n```\n",
            "line 1: the mark 'finally' stands above",
        ),
        ("```sh\ntrue\n```\n\n<!-- quickstart: finally -->\n", "line 5: the mark 'finally' stands above"),
    ],
)
def test_a_page_that_cannot_be_followed_is_refused_before_anything_is_run(page: Path, text: str, why: str) -> None:
    page.write_text(text)
    done = follow(page)
    assert done.returncode == 2
    assert why in done.stderr


def test_it_lists_what_it_would_run_and_runs_nothing(page: Path, proof: Path) -> None:
    page.write_text(f"# A page\n\n```sh\ntouch {proof}\n```\n")
    done = follow(page, "--list")
    assert (done.returncode, done.stdout) == (0, f"# {page}:4\ntouch {proof}\n\n")
    assert not proof.exists()
