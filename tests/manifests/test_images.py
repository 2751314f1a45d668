"""What is in the images that hack/images has built, and what is not."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

import crikpy
from crikpy import names

pytestmark = pytest.mark.e2e

FOLDER = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crikpy/images"


class Image:
    """A docker-archive.

    Attributes:
        tags: its names.
        config: how it is run.
        modes: permissions of each file, by its path.
        sizes: bytes of each file, by its path.
        dates: seconds, every one that anything in it bears.
        dated_bytecode: files of bytecode that Python throws away if their source has another date.
    """

    def __init__(self, name: str) -> None:
        path = FOLDER / f"crikpy-{name}.tar"
        if not path.exists():
            pytest.skip(f"needs {path}: hack/images build makes it")
        self.modes: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.dates: set[float] = set()
        self.dated_bytecode: set[str] = set()
        with tarfile.open(path) as archive:
            (manifest,) = self._json(archive, "manifest.json")
            self.tags = manifest["RepoTags"]
            self.config = self._json(archive, manifest["Config"])["config"]
            for layer in manifest["Layers"]:
                with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                    for member in files:
                        self.dates.add(member.mtime)
                        if member.name.endswith(".pyc") and not self._start(files, member)[4] & 1:
                            self.dated_bytecode.add(member.name)
                        if member.isfile():
                            self.modes[f"/{member.name}"] = member.mode
                            self.sizes[f"/{member.name}"] = member.size

    def has(self, ending: str) -> bool:
        return any(path.endswith(ending) for path in self.modes)

    @staticmethod
    def _start(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
        file = archive.extractfile(member)
        assert file is not None
        return file.read(8)

    @staticmethod
    def _json(archive: tarfile.TarFile, name: str) -> Any:
        file = archive.extractfile(name)
        assert file is not None
        return json.load(file)


@pytest.fixture(scope="module")
def agent() -> Image:
    return Image("agent")


@pytest.fixture(scope="module")
def controller() -> Image:
    return Image("controller")


@pytest.fixture(scope="module")
def launcher() -> Image:
    return Image("launcher")


@pytest.fixture(scope="module", params=["agent", "controller"])
def python_image(request: pytest.FixtureRequest) -> Image:
    image: Image = request.getfixturevalue(request.param)
    return image


@pytest.mark.parametrize("name", ["agent", "controller", "launcher"])
def test_each_image_bears_the_name_that_the_manifests_use(name: str, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue(name).tags == [f"ghcr.io/crikpy/{name}:{crikpy.__version__}"]


def test_the_agents_files_are_where_the_code_looks_for_them(agent: Image) -> None:
    for path in (names.LAUNCHER_PATH, names.BUNDLE_DIR / "criu", names.BUNDLE_DIR / "lib" / names.BUNDLE_LOADER):
        assert agent.modes[str(path)] & 0o111, path
    assert str(names.LAUNCHER_PATH.parent / names.TILES_LIBRARY) in agent.modes
    assert agent.has("/bin/nsenter")


def test_the_controller_and_the_launcher_are_nobody_on_the_node(controller: Image, launcher: Image) -> None:
    assert {controller.config["User"], launcher.config["User"]} == {"65532:65532"}
    assert not controller.has("/criu")


def test_the_launchers_image_is_one_program(launcher: Image) -> None:
    assert list(launcher.modes) == ["/launch"]
    assert launcher.modes["/launch"] & 0o777 == 0o755
    assert launcher.config["Entrypoint"] == ["/launch"]


def test_no_tool_that_builds_or_installs_is_left(python_image: Image) -> None:
    for ending in ("/bin/gcc", "/bin/cc", "/bin/make", "/bin/pip", "/site-packages/pip/__init__.py"):
        assert not python_image.has(ending), ending


def test_nothing_of_the_machine_that_built_it_is_left(python_image: Image) -> None:
    unwanted = ("/mnt/", "/root/.", "/etc/apt/sources.list", "/var/lib/apt/lists/", "/etc/pip", "/tmp/", "/src/")
    left = [path for path in python_image.modes if path.startswith(unwanted)]
    assert set(left) <= {"/root/.bashrc", "/root/.profile"}
    for path in ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname"):
        assert not python_image.sizes.get(path), f"{path} is not empty"


def test_crikpy_is_compiled_for_a_file_system_that_cannot_be_written_to(python_image: Image) -> None:
    ours = {path for path in python_image.modes if "/site-packages/crikpy/" in path}
    sources = {path for path in ours if path.endswith(".py")}
    compiled = {path.replace("/__pycache__/", "/").split(".cpython-")[0] + ".py" for path in ours - sources}
    assert sources
    assert sources <= compiled


def test_nothing_in_an_image_tells_when_it_was_built(python_image: Image, launcher: Image) -> None:
    assert len(launcher.dates) == 1
    assert len(python_image.dates | launcher.dates) <= 2, "the date of the build, and perhaps that of its base"


def test_no_bytecode_is_thrown_away_for_its_date(python_image: Image) -> None:
    assert any("/json/__pycache__/decoder." in path for path in python_image.modes)
    used = ("usr/lib/python3", "opt/crikpy/")
    assert not [path for path in python_image.dated_bytecode if path.startswith(used)]
