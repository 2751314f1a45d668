"""Questions that only the kernel itself can answer: small system calls that change nothing.

Each returns what it found, or raises OSError or NodeError; what that means is crikpy.criu.verdicts' business.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Final

from crikpy.aio.children import Child
from crikpy.aio.clock import Deadline
from crikpy.errors import NodeError

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.syscall.restype = ctypes.c_long

_CLONE3 = 435
_USERFAULTFD = {"x86_64": 323, "aarch64": 282}

_PTRACE_SEIZE = 0x4206
_PTRACE_INTERRUPT = 0x4207
_PTRACE_GET_RSEQ_CONFIGURATION = 0x420F
_RSEQ_CONFIGURATION_BYTES = 24

_PAGEMAP = Path("/proc/self/pagemap")
_SOFT_DIRTY_BIT = 55

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR = 2
_REQUEST_DUMP = 0x301

_AF_PACKET, _AF_NETLINK = 17, 16
_DIAG_QUERIES: Final = {
    "unix_diag": struct.pack("=BBH5I", socket.AF_UNIX, 0, 0, 0, 0, 0, 0, 0),
    "tcp_diag": struct.pack("=BBBBI48x", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0),
    "udp_diag": struct.pack("=BBBBI48x", socket.AF_INET, socket.IPPROTO_UDP, 0, 0, 0),
    "af_packet_diag": struct.pack("=BBH4I", _AF_PACKET, 0, 0, 0, 0, 0, 0),
    "netlink_diag": struct.pack("=BBH4I", _AF_NETLINK, _NETLINK_SOCK_DIAG, 0, 0, 0, 0, 0),
}
"""By kernel module, the smallest question that it answers (include/uapi/linux/*_diag.h); with states of zero
the first three list no socket at all."""


def clone3_set_tid() -> bool:
    """Say whether clone3 takes PIDs for the new process, which is how CRIU gives a task its old one.

    The call names 64 PID namespaces, twice as many as can nest: a kernel that reads the field answers EINVAL,
    an older one E2BIG, and none makes a process.
    """
    arguments = ctypes.create_string_buffer(struct.pack("=10Q", *(0,) * 8, 0, 64), 80)
    _libc.syscall(ctypes.c_long(_CLONE3), arguments, ctypes.c_size_t(80))
    return ctypes.get_errno() == errno.EINVAL


def pidfd() -> bool:
    """Say whether processes can be held by descriptors."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as fault:
        if fault.errno == errno.ENOSYS:
            return False
        raise
    return True


def userfaultfd() -> bool:
    """Say whether missing pages could be filled in later."""
    number = _USERFAULTFD.get(platform.machine())
    if number is None:
        return False
    fd = _libc.syscall(ctypes.c_long(number), ctypes.c_long(os.O_CLOEXEC | os.O_NONBLOCK))
    if fd < 0:
        return False
    os.close(fd)
    return True


def soft_dirty() -> bool:
    """Say whether the kernel tracks written pages: a page written just now then carries the mark."""
    with mmap.mmap(-1, mmap.PAGESIZE) as page, _PAGEMAP.open("rb", buffering=0) as pagemap:
        page[0] = 1
        # The view is dropped before the mapping is closed, which would fail otherwise.
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        (entry,) = struct.unpack("=Q", os.pread(pagemap.fileno(), 8, address // mmap.PAGESIZE * 8))
    return bool(entry >> _SOFT_DIRTY_BIT & 1)


def missing_diag_modules() -> tuple[str, ...]:
    """Return the modules without which CRIU cannot list sockets of their kind; the kernel loads what it can."""
    return tuple(module for module, query in _DIAG_QUERIES.items() if not _diag_answers(query))


def _diag_answers(query: bytes) -> bool:
    header = struct.pack("=IHHII", 16 + len(query), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    with socket.socket(_AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as plug:
        plug.settimeout(2.0)
        plug.send(header + query)
        answer = plug.recv(65536)
    _, kind, _, _, _, status = struct.unpack_from("=IHHIIi", answer)
    return not (kind == _NLMSG_ERROR and status < 0)


def ptrace_reads_rseq(deadline: Deadline) -> bool:
    """Stop a process of our own by ptrace and say whether its rseq configuration can be read.

    Raises:
        NodeError: ptrace is refused, or the process does not stop.
        DeadlineError: it did not stop in time.
    """
    with Child([sys.executable, "-ISc", "import time; time.sleep(600)"]) as child:
        _ptrace(_PTRACE_SEIZE, child.pid)
        _ptrace(_PTRACE_INTERRUPT, child.pid)
        while True:
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                break
            deadline.check("stopping a process by ptrace")
            time.sleep(0.002)
        if not os.WIFSTOPPED(status):
            raise NodeError(f"a process ended instead of stopping (wait status {status})")
        room = ctypes.create_string_buffer(64)
        size = ctypes.c_void_p(_RSEQ_CONFIGURATION_BYTES)
        return bool(_libc.ptrace(_PTRACE_GET_RSEQ_CONFIGURATION, child.pid, size, room) > 0)


def _ptrace(request: int, pid: int) -> None:
    if _libc.ptrace(request, pid, None, None) != 0:
        code = ctypes.get_errno()
        raise NodeError(f"ptrace is refused: {os.strerror(code)}")
