"""A restore is refused for what would break the job later, and for nothing else."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crikpy.criu import compat, versions
from crikpy.model.manifest import Compatibility

ICE_LAKE = """\
processor	: 0
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
flags		: fpu vme sse sse2 ht syscall nx lm constant_tsc rep_good pni pclmulqdq ssse3 fma sse4_1 sse4_2 \
avx f16c hypervisor abm invpcid_single pti ibrs ibpb fsgsbase bmi1 avx2 erms invpcid avx512f avx512dq clwb \
avx512bw xsaves pku ospke gfni vaes
bugs		: spectre_v1

processor	: 1
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz
flags		: fpu vme sse sse2 ht syscall nx lm constant_tsc rep_good pni pclmulqdq ssse3 fma sse4_1 sse4_2 \
avx f16c hypervisor abm invpcid_single pti ibrs ibpb fsgsbase bmi1 avx2 erms invpcid avx512f avx512dq clwb \
avx512bw xsaves pku ospke gfni
"""

GRAVITON = """\
processor	: 0
BogoMIPS	: 243.75
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics cpuid sve bf16
CPU implementer	: 0x41
CPU part	: 0xd40
"""

HERE = Compatibility(
    architecture="x86_64",
    page_size=4096,
    kernel="6.12.9-amd64",
    criu="4.2.1",
    cpu_model="Xeon",
    cpu_features=("avx", "avx2", "sse2"),
)


def test_a_machine_fits_itself() -> None:
    here = compat.facts("4.2.1")
    assert compat.differences(here, here) == ()


def test_the_facts_are_those_of_this_machine() -> None:
    here = compat.facts("4.2.1")
    assert (here.architecture, here.kernel) == (os.uname().machine, os.uname().release)
    assert here.page_size == os.sysconf("SC_PAGE_SIZE")
    assert here.criu == "4.2.1"
    assert (here.image, compat.facts("4.2.1", "sha256:1").image) == ("", "sha256:1")
    assert {"sse2", "fpu"} <= set(here.cpu_features) or here.architecture != "x86_64"


def test_only_instructions_that_every_cpu_offers_to_programs_count() -> None:
    model, features = compat.cpu_facts(ICE_LAKE, "x86_64")
    assert model == "Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz"
    assert features == (
        *("abm", "avx", "avx2", "avx512bw", "avx512dq", "avx512f", "bmi1", "clwb", "f16c", "fma", "fpu"),
        *("fsgsbase", "gfni", "ospke", "pclmulqdq", "pku", "pni", "sse", "sse2", "sse4_1", "sse4_2", "ssse3"),
    )


def test_on_arm_every_feature_but_the_hints_counts() -> None:
    model, features = compat.cpu_facts(GRAVITON, "aarch64")
    assert model == "0xd40"
    assert features == ("aes", "asimd", "atomics", "bf16", "crc32", "fp", "pmull", "sha1", "sha2", "sve")


def test_a_cpuinfo_that_says_nothing_gives_nothing() -> None:
    assert compat.cpu_facts("", "x86_64") == ("", ())


@pytest.mark.parametrize("later", ["avx10_2", "avx512_fp16", "amx_fp16", "avx_vnni_int8"])
def test_vector_instructions_of_later_kernels_count_by_their_family(later: str) -> None:
    assert compat.cpu_facts(f"flags\t\t: {later} pti", "x86_64")[1] == (later,)


def test_a_missing_feature_is_named_with_both_machines() -> None:
    dumped = replace(HERE, cpu_features=("amx_tile", "avx", "avx512f", "sse2"), cpu_model="Xeon 8488C")
    (message,) = compat.differences(dumped, HERE)
    assert "lacks amx_tile, avx512f" in message
    assert "Xeon 8488C" in message
    assert "this is Xeon" in message


def test_more_features_than_at_the_dump_are_fine() -> None:
    assert compat.differences(replace(HERE, cpu_features=("sse2",)), HERE) == ()


def test_another_architecture_is_all_that_is_said() -> None:
    arm = replace(HERE, architecture="aarch64", cpu_features=("sve",), page_size=65536)
    assert compat.differences(arm, HERE) == ("architecture: dumped on aarch64, this machine is x86_64",)


def test_every_difference_is_named() -> None:
    dumped = replace(HERE, page_size=65536, criu="4.3", kernel="6.3.0", cpu_features=("vaes",), image="sha256:1")
    here = replace(HERE, kernel="6.1.0", image="sha256:2")
    messages = compat.differences(dumped, here)
    subjects = ("page size", "CPU features", "CRIU", "kernel", "image")
    assert [
        subject for subject, message in zip(subjects, messages, strict=True) if message.startswith(subject)
    ] == [*subjects]


@pytest.mark.parametrize(
    ("dumped", "here", "fits"),
    [
        ("4.2.1", "4.2.1", True),
        ("4.2.1", "4.2.2", True),
        ("4.2.1", "4.3", True),
        ("4.2", "4.10", True),
        ("4.2.1", "5.0", True),
        ("4.2.1", "4.2", False),
        ("4.10", "4.9.9", False),
        ("4.2.1-custom", "4.2.1-custom", True),
        ("unknown", "unknown", True),
        ("unknown", "4.2.1", False),
    ],
)
def test_a_newer_criu_reads_what_an_older_one_wrote_and_not_the_reverse(
    dumped: str, here: str, fits: bool
) -> None:
    found = compat.differences(replace(HERE, criu=dumped), replace(HERE, criu=here))
    assert (found == ()) is fits


@pytest.mark.parametrize(
    ("dumped", "here", "fits"),
    [
        ("6.18.44-fc", "6.12.9-amd64", True),  # older, but nothing that a job could rely on lies between
        ("6.12.9-amd64", "6.18.44-fc", True),
        ("5.10.0", "6.18.0", True),
        ("6.1.0-50", "6.1.0-49", True),
        ("6.12.0", "6.1.0", False),  # mm_cid came in 6.3
        ("6.3.0", "6.2.16", False),
        ("6.2.0", "5.10.0", True),
        ("nonsense", "6.1.0", False),
        ("nonsense", "nonsense", True),
    ],
)
def test_an_older_kernel_is_refused_only_where_jobs_would_go_wrong(dumped: str, here: str, fits: bool) -> None:
    found = compat.differences(replace(HERE, kernel=dumped), replace(HERE, kernel=here))
    assert (found == ()) is fits


def test_a_refused_kernel_says_why() -> None:
    (message,) = compat.differences(replace(HERE, kernel="6.12.0"), replace(HERE, kernel="6.1.0-49-amd64"))
    assert "this machine runs 6.1.0-49-amd64; before 6.3, the rseq area has no mm_cid" in message


def test_another_image_is_refused_and_an_unknown_one_is_not() -> None:
    dumped = replace(HERE, image="sha256:1")
    assert compat.differences(dumped, replace(HERE, image="sha256:1")) == ()
    assert compat.differences(dumped, replace(HERE, image="sha256:2")) == ("image sha256:1 there, sha256:2 here",)
    assert compat.differences(dumped, HERE) == ()
    assert compat.differences(HERE, dumped) == ()


_features = st.frozensets(st.sampled_from(["avx", "avx2", "avx512f", "aes", "sha_ni"])).map(
    lambda found: tuple(sorted(found))
)


@given(dumped=_features, here=_features)
def test_features_fit_exactly_when_none_is_missing(dumped: tuple[str, ...], here: tuple[str, ...]) -> None:
    found = compat.differences(replace(HERE, cpu_features=dumped), replace(HERE, cpu_features=here))
    assert (found == ()) is (set(dumped) <= set(here))


@given(text=st.text())
def test_any_text_is_a_version_or_a_value_error(text: str) -> None:
    for read in (versions.criu_version, versions.kernel_version, versions.criu_version_line):
        with contextlib.suppress(ValueError):
            assert read(text)


@pytest.mark.parametrize(
    ("output", "version"), [("Version: 4.2.1\n", "4.2.1"), ("Warn\nVersion: 4.3\nGitID: v4.3-1-gabc\n", "4.3")]
)
def test_the_version_is_found_in_what_criu_prints(output: str, version: str) -> None:
    assert versions.criu_version_line(output) == version
