"""What a restore's machine must have in common with the dump's, and what it may lack.

A program picks its code by what the CPU offers when it starts, and keeps to that choice after a restore: an
instruction that is missing then kills it at some later time. So every feature of the dump's machine that user
space can use has to be here; more is fine. The layout of the XSAVE area is not compared: CRIU stores registers
by component and lays them out anew for the CPU it runs on.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Final

from crikpy.criu import versions
from crikpy.model.manifest import Compatibility

_X86_WORDS: Final = """
    3dnow 3dnowext abm adx aes apx bmi1 bmi2 cldemote clflush clflushopt clwb clzero cmov cmpccxadd cx16 cx8
    enqcmd f16c fma fma4 fpu fsgsbase fxsr gfni hle ibt kl lahf_lm lwp mmx mmxext misalignsse monitorx
    movbe movdir64b movdiri mpx mwaitx ospke pclmulqdq pku pni popcnt prefetchi ptwrite raoint rdpid rdpru rdrand
    rdseed rdtscp rtm serialize sha512 sha_ni sm3 sm4 sse sse2 sse4_1 sse4_2 sse4a ssse3 tbm tsc tsxldtrk uintr
    user_shstk usermsr vaes vpclmulqdq waitpkg widekl xgetbv1 xop xsave xsavec xsaveopt
"""
_X86_FEATURES: Final = frozenset(_X86_WORDS.split())
"""Names of /proc/cpuinfo (arch/x86/include/asm/cpufeatures.h) of what an unprivileged program can execute.

Left out: what only the kernel uses (xsaves, invpcid, la57), mitigations and virtualisation (pti, ibrs,
hypervisor), and hints at speed whose absence breaks nothing (erms, fsrm, rep_good).
"""

_X86_FAMILIES: Final = ("avx", "amx_")
"""Beginnings of names that have always meant instructions for programs, later ones included."""

_ARM_HINTS: Final = frozenset({"cpuid", "evtstrm"})
"""Words of an ARM machine's Features line that are not instructions; all others are."""

_NO_MM_CID: Final = (
    "the rseq area has no mm_cid; an allocator that was told of one (TCMalloc) would share its caches between CPUs"
    " and corrupt memory"
)
_KERNEL_LINES: Final = (((6, 3), _NO_MM_CID),)
"""Kernels below which a job of a newer one would run on wrongly instead of failing cleanly, and why.

CRIU's images are portable between kernels: the vDSO is bridged, and state that an older kernel does not know
makes the restore fail before the job runs. So an older kernel alone is no reason to refuse, only one of these.
"""


def facts(criu_version: str, image: str = "") -> Compatibility:
    """Return this machine's facts.

    Args:
        criu_version: of the CRIU that is here.
        image: digest of the container's image, or empty where it is unknown or there is none.
    """
    machine = os.uname()
    model, features = cpu_facts(Path("/proc/cpuinfo").read_text(), machine.machine)
    return Compatibility(
        architecture=machine.machine,
        page_size=os.sysconf("SC_PAGE_SIZE"),
        kernel=machine.release,
        criu=criu_version,
        cpu_model=model,
        cpu_features=features,
        image=image,
    )


def cpu_facts(cpuinfo: str, architecture: str) -> tuple[str, tuple[str, ...]]:
    """Read the model's name and the sorted features that every CPU of the machine offers to programs."""
    model = re.search(r"^(?:model name|CPU part)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    common = frozenset.intersection(*(frozenset(line.split()) for line in lines)) if lines else frozenset()
    usable = _usable_on_x86(common) if architecture == "x86_64" else common - _ARM_HINTS
    return (model[1].strip() if model else ""), tuple(sorted(usable))


def cpu_class(here: Compatibility) -> str:
    """Return 16 hex digits that machines share on which programs find the same instructions and pages."""
    words = (here.architecture, str(here.page_size), *here.cpu_features)
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _usable_on_x86(flags: frozenset[str]) -> frozenset[str]:
    return frozenset(flag for flag in flags if flag in _X86_FEATURES or flag.startswith(_X86_FAMILIES))


def differences(dumped: Compatibility, here: Compatibility) -> tuple[str, ...]:
    """Return one message for each thing that forbids a restore here; none when it fits."""
    image = _image(dumped, here)
    return (*machine_differences(dumped, here), *((image,) if image else ()))


def machine_differences(dumped: Compatibility, here: Compatibility) -> tuple[str, ...]:
    """Return the same of what another machine could make good."""
    if dumped.architecture != here.architecture:
        return (f"architecture: dumped on {dumped.architecture}, this machine is {here.architecture}",)
    return tuple(
        message
        for message in (
            _page_size(dumped, here),
            _features(dumped, here),
            _criu(dumped, here),
            _kernel(dumped, here),
        )
        if message
    )


def _page_size(dumped: Compatibility, here: Compatibility) -> str:
    if dumped.page_size == here.page_size:
        return ""
    return f"page size: dumped with {dumped.page_size} bytes, this machine has {here.page_size}"


def _features(dumped: Compatibility, here: Compatibility) -> str:
    missing = sorted(frozenset(dumped.cpu_features) - frozenset(here.cpu_features))
    if not missing:
        return ""
    return (
        f"CPU features: this machine lacks {', '.join(missing)}, which the job may use"
        f" (dumped on {dumped.cpu_model or 'an unnamed CPU'}, this is {here.cpu_model or 'an unnamed CPU'})"
    )


def _criu(dumped: Compatibility, here: Compatibility) -> str:
    """Newer CRIUs read the images of older ones; not the other way round."""
    if dumped.criu == here.criu:
        return ""
    try:
        older = versions.criu_version(here.criu) < versions.criu_version(dumped.criu)
    except ValueError:
        older = True
    return f"CRIU: dumped with {dumped.criu}, this machine has {here.criu}" if older else ""


def _kernel(dumped: Compatibility, here: Compatibility) -> str:
    if dumped.kernel == here.kernel:
        return ""
    try:
        then, now = versions.kernel_version(dumped.kernel), versions.kernel_version(here.kernel)
    except ValueError as fault:
        return f"kernel: {fault}"
    reasons = [f"before {versions.dotted(line)}, {why}" for line, why in _KERNEL_LINES if now < line <= then]
    if not reasons:
        return ""
    return f"kernel: dumped on {dumped.kernel}, this machine runs {here.kernel}; {'; '.join(reasons)}"


def _image(dumped: Compatibility, here: Compatibility) -> str:
    """A digest that is unknown on either side forbids nothing: what counts then are the sizes of open files."""
    if not dumped.image or not here.image or dumped.image == here.image:
        return ""
    return f"image {dumped.image} there, {here.image} here"
