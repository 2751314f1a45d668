"""The CRIU bundle: works from any path, and refuses whatever the lock does not pin.

The script itself is run, against the machine's package cache or mirror for the real
bundle and against a loopback mirror for everything that must fail.
"""

import http.server
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "hack" / "criu-bundle"
LOCK = ROOT / "daemonset" / "criu" / "bundle.lock"
LOADER = "lib/ld-linux-x86-64.so.2"
PACKAGE = "pool/main/c/criu/criu_4.2.1-1_amd64.deb"
# A process namespace too, so that a time-out leaves nothing behind.
UNSHARE = ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]

pytestmark = pytest.mark.criu


def build(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, directory],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def criu(bundle: Path) -> list[str]:
    loader = [str(bundle / LOADER), "--inhibit-cache", "--library-path", str(bundle / "lib")]
    return [*loader, str(bundle / "criu")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("criu") / "bundle"
    result = build(directory)
    assert result.returncode == 0, result.stderr
    return directory


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    """A copy to spoil, at another path than the one it was built at."""
    return shutil.copytree(built, tmp_path / "moved" / "bundle")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A package mirror on loopback: its URI and the folder that it serves."""
    folder = tmp_path / "mirror"
    (folder / PACKAGE).parent.mkdir(parents=True)
    serve = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def test_criu_runs_from_a_moved_bundle(bundle: Path) -> None:
    result = subprocess.run([*criu(bundle), "--version"], env={}, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[0] == f"Version: {(bundle / 'VERSION').read_text().strip()}"


def test_every_library_is_the_bundle_s_own(bundle: Path) -> None:
    loader, *options, program = criu(bundle)
    listed = subprocess.run(
        [loader, *options, "--list", program], env={}, capture_output=True, text=True, check=True
    )
    paths = re.findall(r"=> (/\S+)", listed.stdout)
    assert len(paths) > 5
    assert [path for path in paths if not path.startswith(f"{bundle}/lib/")] == []


def test_a_bundle_that_matches_the_lock_is_left_alone(bundle: Path) -> None:
    before = (bundle / "criu").stat()
    assert build(bundle).returncode == 0
    after = (bundle / "criu").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_spoilt_bundle_is_built_anew(built: Path, bundle: Path) -> None:
    (bundle / "criu").write_bytes(b"not criu")
    assert build(bundle).returncode == 0
    assert (bundle / "criu").read_bytes() == (built / "criu").read_bytes()
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a mount namespace")
def test_the_preload_file_of_a_foreign_root_is_not_obeyed(bundle: Path) -> None:
    script = 'mount -t tmpfs none /etc && echo /nowhere.so >/etc/ld.so.preload && exec "$@"'

    def complaints(*command: str) -> str:
        result = subprocess.run(
            [*UNSHARE, "sh", "-c", script, "sh", *command],
            capture_output=True,
            text=True,
            check=True,
        )
        return result.stderr

    assert "/nowhere.so" in complaints("/bin/true")
    assert complaints(*criu(bundle), "--version") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a mount namespace")
def test_the_kernel_cache_of_a_foreign_root_is_neither_read_nor_written(bundle: Path, tmp_path: Path) -> None:
    script = 'mount -t tmpfs none /run && mkfifo /run/criu.kdat && "$@" >/dev/null 2>&1; ls /run'
    result = subprocess.run(
        [*UNSHARE, "sh", "-c", script, "sh", *criu(bundle), "check"],
        cwd=tmp_path,  # where it leaves its cache, or the beginning of one
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert result.stdout == "criu.kdat\n"


def test_a_package_that_differs_from_its_pin_is_refused(mirror: tuple[str, Path], tmp_path: Path) -> None:
    uri, folder = mirror
    (folder / PACKAGE).write_bytes(b"not the package")
    result = build(tmp_path / "bundle", CRIKPY_DEBIAN_MIRROR=uri, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert result.returncode == 1
    assert "refused" in result.stderr
    assert not list(tmp_path.glob("bundle*"))
    assert not list((tmp_path / "cache").rglob("*.deb"))


def test_a_spoilt_cached_package_is_not_used(mirror: tuple[str, Path], tmp_path: Path) -> None:
    cached = tmp_path / "cache" / "crikpy" / "debs" / Path(PACKAGE).name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"not the package")
    result = build(tmp_path / "bundle", CRIKPY_DEBIAN_MIRROR=mirror[0], XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert result.returncode == 1
    assert f"gone from the mirror: {PACKAGE}" in result.stderr


def test_when_the_mirror_has_dropped_packages_it_says_what_to_do(mirror: tuple[str, Path], tmp_path: Path) -> None:
    result = build(tmp_path / "bundle", CRIKPY_DEBIAN_MIRROR=mirror[0], XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert result.returncode == 1
    assert "--update-lock" in result.stderr
    assert "CRIKPY_DEBIAN_MIRROR" in result.stderr


@pytest.mark.usefixtures("built")
def test_a_later_set_of_the_lock_stands_in_for_a_dropped_package(mirror: tuple[str, Path], tmp_path: Path) -> None:
    gone = f"gone nosuch 1-1 amd64 pool/n/nosuch_1-1_amd64.deb {'0' * 64}\n"
    lock = tmp_path / "lock"
    lock.write_text(gone + LOCK.read_text())
    result = build(tmp_path / "bundle", CRIKPY_BUNDLE_LOCK=str(lock), CRIKPY_DEBIAN_MIRROR=mirror[0])
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "bundle" / "criu").is_file()


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    result = build(tmp_path)
    assert result.returncode == 1
    assert (tmp_path / "precious").exists()
