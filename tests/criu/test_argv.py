"""CRIU's words, pinned whole: a new option is a decision, and none may name anything of the job's image."""

from __future__ import annotations

import re

import pytest

from crikpy.criu import argv
from crikpy.criu.argv import Descriptors, InheritedPipe

GIVEN = Descriptors(bundle=5, loader=6, images=7, log=8)
PRELOADING = Descriptors(bundle=5, loader=6, images=7, log=8, preloaded=(9, 4))

PROGRAM = (
    "/proc/self/fd/6",
    "--inhibit-cache",
    "--library-path",
    "/proc/self/fd/5/lib",
    "/proc/self/fd/5/criu",
)
DIRECTORIES = (
    "--images-dir=/proc/self/fd/7",
    "--log-file=/proc/self/fd/8",
    "--libdir=/proc/self/fd/5/plugins",
)
COMMON = (
    "--stream",
    "--network-lock=skip",
    "--manage-cgroups=ignore",
    "--file-locks",
    "--link-remap",
    "--ext-unix-sk",
    "--file-validation=filesize",
    "--no-default-config",
    "-v3",
)
PIPES = (
    InheritedPipe(descriptor=11, identity="pipe:[4711]"),
    InheritedPipe(descriptor=12, identity="pipe:[4712]"),
)

DUMP = argv.dump(GIVEN, root_pid=9001, ghost_limit_bytes=512, collect_timeout_s=30)
RESTORE = argv.restore(GIVEN, pipes=PIPES)
DUMP_PRELOADING = argv.dump(PRELOADING, root_pid=9001, ghost_limit_bytes=512, collect_timeout_s=30)
RESTORE_PRELOADING = argv.restore(PRELOADING, pipes=())
RESTORE_KEEPING = argv.restore(GIVEN, pipes=PIPES, keeps_connections=True)
EVERY_START = pytest.mark.parametrize(
    "words", [DUMP, RESTORE, RESTORE_KEEPING, DUMP_PRELOADING, RESTORE_PRELOADING]
)

RUNS_OR_READS_OTHER_THINGS = {
    *("--action-script", "--config", "--exec-cmd", "--join-ns", "--root", "--lsm-profile", "--irmap-scan-path"),
    *("--external", "--ext-mount-map", "--freeze-cgroup", "--cgroup-props-file", "--cgroup-yard", "--tls"),
    *("--pidfile", "--status-fd", "--work-dir", "--page-server", "--enable-fs", "--enable-external-masters"),
}
"""Options of criu(8) that run a program, or name a path or an address."""


def test_a_dump_leaves_the_tree_stopped_and_has_these_options() -> None:
    assert list(DUMP) == [
        *PROGRAM,
        "dump",
        "--tree=9001",
        *DIRECTORIES,
        "--leave-stopped",
        "--tcp-close",
        "--skip-in-flight",
        "--ghost-limit=512",
        "--timeout=30",
        *COMMON,
    ]


def test_a_restore_leaves_the_tree_stopped_and_has_these_options() -> None:
    assert list(RESTORE) == [
        *PROGRAM,
        "restore",
        *DIRECTORIES,
        "--restore-detached",
        "--leave-stopped",
        "--tcp-close",
        "--inherit-fd=fd[11]:pipe:[4711]",
        "--inherit-fd=fd[12]:pipe:[4712]",
        *COMMON,
    ]


def test_unix_sockets_whose_other_ends_need_not_be_dumped_are_named() -> None:
    words = argv.dump(GIVEN, root_pid=9001, ghost_limit_bytes=512, collect_timeout_s=30, unix_ends=(4711, 4712))
    assert [word for word in words if word not in DUMP] == ["--ext-unix-sk=4711,4712"]


def test_a_restore_that_keeps_connections_closes_none() -> None:
    assert list(RESTORE_KEEPING) == [word.replace("--tcp-close", "--tcp-established") for word in RESTORE]


@pytest.mark.parametrize("words", [DUMP_PRELOADING, RESTORE_PRELOADING])
def test_libraries_are_preloaded_by_their_descriptors(words: tuple[str, ...]) -> None:
    assert words[: len(PROGRAM) + 2] == (
        *PROGRAM[:2],
        "--preload",
        "/proc/self/fd/9:/proc/self/fd/4",
        *PROGRAM[2:],
    )


@pytest.mark.parametrize("words", [DUMP, RESTORE])
def test_nothing_is_preloaded_unasked(words: tuple[str, ...]) -> None:
    assert "--preload" not in words


@EVERY_START
def test_every_path_is_reached_by_a_descriptor_that_we_opened(words: tuple[str, ...]) -> None:
    paths = [path for word in words for path in re.findall(r"(?:^|[=:])(/[^:]*)", word)]
    assert paths
    assert [path for path in paths if not re.match(r"/proc/self/fd/[4-9](/(lib|criu|plugins))?$", path)] == []


@EVERY_START
def test_nothing_is_run_or_read_but_the_bundle(words: tuple[str, ...]) -> None:
    assert {word.partition("=")[0] for word in words} & RUNS_OR_READS_OTHER_THINGS == set()
    assert "--no-default-config" in words
    assert "--network-lock=skip" in words
    assert "--libdir=/proc/self/fd/5/plugins" in words


def test_no_program_can_be_found_by_name() -> None:
    assert argv.ENVIRONMENT == {"PATH": "/proc/version", "LC_ALL": "C"}


def test_what_is_watched_is_named_to_a_dump() -> None:
    words = argv.dump(GIVEN, root_pid=1, ghost_limit_bytes=1, collect_timeout_s=1, watched=("/etc/x", "/a b"))
    assert [word for word in words if "irmap" in word] == ["--irmap-scan-path=/etc/x", "--irmap-scan-path=/a b"]
    assert "--irmap-scan-path" not in " ".join(DUMP)


def test_all_descriptors_are_passed_on() -> None:
    assert GIVEN.all() == (5, 6, 7, 8)
    assert PRELOADING.all() == (5, 6, 7, 8, 9, 4)


def test_the_check_of_the_kernel_runs_by_the_bundles_loader() -> None:
    assert argv.check("/b", "/work") == (
        *("/b/lib/ld-linux-x86-64.so.2", "--library-path", "/b/lib", "/b/criu"),
        *("--no-default-config", "check", "--work-dir=/work", "--libdir=/b/plugins"),
    )
    assert "--work-dir=/b/plugins" in argv.check("/b")
