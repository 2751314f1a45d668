"""What is signed is what is there: hack/release verify refuses everything else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_SIGNER = "release@crikpy.test"
_SIGNING = """set -euo pipefail
die() { echo "$*" >&2; exit 1; }
made=$2
. "$1/hack/release.d/signing.bash"
sum_up
sign "$3"
"""


@dataclass(frozen=True)
class Signed:
    """A folder that is signed, the file of those who may sign, and the key that did."""

    folder: Path
    signers: Path
    key: Path

    def verify(self) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [ROOT / "hack/release", "verify", self.folder, self.signers]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, timeout=30)
    return path


def sign(folder: Path, key: Path) -> None:
    subprocess.run(["bash", "-c", _SIGNING, "sign", ROOT, folder, key], check=True, timeout=30)


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    folder = tmp_path / "release"
    folder.mkdir()
    for name in ("crikpy-1.0.tar.gz", "crikpy-agent-1.0.oci.tar", "image-digests.txt"):
        (folder / name).write_text(f"content of {name}")
    key = make_key(tmp_path / "key")
    signers = tmp_path / "signers"
    signers.write_text(f"{_SIGNER} {key.with_suffix('.pub').read_text()}")
    sign(folder, key)
    return Signed(folder, signers, key)


def change_a_file(signed: Signed) -> None:
    (signed.folder / "image-digests.txt").write_text("another")


def remove_a_file(signed: Signed) -> None:
    (signed.folder / "image-digests.txt").unlink()


def add_a_file(signed: Signed) -> None:
    (signed.folder / "more").write_text("more")


def put_a_link_in(signed: Signed) -> None:
    (signed.folder / "more").symlink_to("/etc/passwd")


def change_a_file_and_its_sum(signed: Signed) -> None:
    kept = (signed.folder / "SHA256SUMS.sig").read_bytes()
    change_a_file(signed)
    (signed.folder / "SHA256SUMS.sig").unlink()
    sign(signed.folder, signed.key)
    (signed.folder / "SHA256SUMS.sig").write_bytes(kept)


def sign_with_another_key(signed: Signed) -> None:
    (signed.folder / "SHA256SUMS.sig").unlink()
    sign(signed.folder, make_key(signed.folder.parent / "other"))


def sign_it_as_something_else(signed: Signed) -> None:
    (signed.folder / "SHA256SUMS.sig").unlink()
    sums = signed.folder / "SHA256SUMS"
    command: list[str | Path] = ["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", signed.key, sums]
    subprocess.run(command, check=True, timeout=30)


def remove_the_signature(signed: Signed) -> None:
    (signed.folder / "SHA256SUMS.sig").unlink()


def test_what_was_signed_is_accepted_and_its_signer_named(signed: Signed) -> None:
    done = signed.verify()
    assert done.returncode == 0, done.stderr
    assert _SIGNER in done.stderr


@pytest.mark.parametrize(
    "tamper",
    [
        change_a_file,
        remove_a_file,
        add_a_file,
        put_a_link_in,
        change_a_file_and_its_sum,
        sign_with_another_key,
        sign_it_as_something_else,
        remove_the_signature,
    ],
)
def test_what_was_tampered_with_is_refused(signed: Signed, tamper: Callable[[Signed], None]) -> None:
    tamper(signed)
    done = signed.verify()
    assert done.returncode == 1, done.stderr
