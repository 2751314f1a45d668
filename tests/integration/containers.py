"""What a kubelet would have containerd make: an OCI bundle for runc, by default with the machine's root as image.

The image is an overlay's lower directory; everything that the container changes is in its upper directory, in
the container's own folder. Nothing of it is mounted in the machine once the container was removed.
"""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crikpy import names

ROOT = Path(__file__).resolve().parents[2]

SHARED = "/.crikpy"
"""Where the launcher and its socket are inside; an emptyDir in a pod."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
_MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/sys/firmware")
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_DEVICES = (
    {"allow": False, "access": "rwm"},
    *({"allow": True, "type": "c", "major": 1, "minor": minor, "access": "rwm"} for minor in (3, 5, 7, 8, 9)),
    {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 2, "access": "rwm"},
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
)
_FORBIDDEN = (
    "mount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsmount", "setns", "unshare", "bpf",
    "keyctl", "add_key", "request_key", "kexec_load", "init_module", "finit_module", "reboot", "swapon", "syslog",
    "io_uring_setup", "io_uring_enter", "io_uring_register", "perf_event_open", "userfaultfd",
)  # fmt: skip


def _unmount(point: Path) -> None:
    """Unmount what somebody who looks through /proc may hold for a moment more."""
    for _ in range(20):
        if subprocess.run(("umount", point), capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(("umount", point), check=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container to be.

    Attributes:
        name: unique on the machine; also its cgroup.
        folder: an empty folder that becomes its own.
        launcher: the static launcher.
        words: the job's command line.
        environment: variables of the job besides PATH.
        uid: user that everything inside runs as.
        shared_directories: directories of the machine by their paths inside, like a pod's volumes.
        volumes: files and directories of the machine that cannot be written, by their paths inside.
        changes: programs and other files that differ from the machine's from the start, by their paths inside.
        read_only: whether the root may not be written.
        agent_wait_s: after this long without an agent the launcher starts the job.
        apparmor: the AppArmor profile of everything inside, or none.
        lower: directories that are its image, the uppermost first.
        allowed: system calls that its seccomp filter lets through although it would not.
        devices: further device nodes, major and minor number by their paths inside.
    """

    name: str
    folder: Path
    launcher: Path
    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    uid: int = 0
    shared_directories: Mapping[str, Path] = field(default_factory=dict)
    volumes: Mapping[str, Path] = field(default_factory=dict)
    changes: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False
    agent_wait_s: int = 3600
    apparmor: str = ""
    lower: Sequence[Path] = (Path("/"),)
    allowed: Sequence[str] = ()
    devices: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def bundle(self) -> Path:
        """The folder that runc starts from."""
        return self.folder / "bundle"

    @property
    def shared(self) -> Path:
        """The emptyDir with the launcher and its socket."""
        return self.folder / "shared"

    @property
    def upper(self) -> Path:
        """What differs from the image."""
        return self.folder / "upper"

    @property
    def runc_root(self) -> Path:
        """Where runc keeps its state."""
        return self.folder / "runc"

    def prepare(self) -> None:
        """Mount the root and write the bundle."""
        for path in (self.bundle / "rootfs", self.shared, self.upper, self.folder / "work"):
            path.mkdir(parents=True)
        self.upper.chmod(0o755)
        self.shared.chmod(0o777)
        installed = subprocess.run((self.launcher, "install", self.shared), capture_output=True, text=True)
        assert installed.returncode == 0, installed.stderr
        for name, text in self.changes.items():
            file = self.upper / name.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755)
        if self.uid != 0:
            self._let_others_in(Path(sys.executable).resolve().parent, ROOT)
        (self.folder / "hostname").write_text(f"{self.name}\n")
        lower = ":".join(map(str, self.lower))
        layers = f"lowerdir={lower},upperdir={self.upper},workdir={self.folder / 'work'}"
        subprocess.run(("mount", "-t", "overlay", "-o", layers, "overlay", self.bundle / "rootfs"), check=True)
        (self.bundle / "config.json").write_text(json.dumps(self._config()))

    def remove(self) -> None:
        """Unmount the root and remove the folder; harmless when `prepare` got nowhere."""
        rootfs = self.bundle / "rootfs"
        if rootfs.is_mount():
            _unmount(rootfs)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _let_others_in(self, *folders: Path) -> None:
        """Make folders of the machine, which may be in root's home, open to every user of the container."""
        for folder in folders:
            for path in (*reversed(folder.parents), folder):
                ours = self.upper / path.relative_to("/")
                ours.mkdir(exist_ok=True)
                ours.chmod(stat.S_IMODE(path.stat().st_mode) | 0o555)

    def _config(self) -> dict[str, object]:
        nothing: list[str] = []
        forbidden = [name for name in _FORBIDDEN if name not in self.allowed]
        capabilities = dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), nothing)
        environment = {"PATH": _PATH, "HOME": "/tmp", "LANG": "C.UTF-8", **self.environment}
        return {
            "ociVersion": "1.0.2",
            "hostname": self.name,
            "root": {"path": "rootfs", "readonly": self.read_only},
            "process": {
                "terminal": False,
                "user": {"uid": self.uid, "gid": self.uid},
                "cwd": "/",
                "args": [
                    *(f"{SHARED}/launch", "--socket", f"{SHARED}/{names.LAUNCHER_SOCKET}"),
                    *("--agent-wait", str(self.agent_wait_s), "--", *self.words),
                ],
                "env": [f"{name}={value}" for name, value in environment.items()],
                "capabilities": capabilities,
                "noNewPrivileges": True,
                **({"apparmorProfile": self.apparmor} if self.apparmor else {}),
            },
            "mounts": [
                _mount("/proc", "proc", "proc"),
                _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
                _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666"),
                _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
                _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
                _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
                _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
                _mount(SHARED, "bind", str(self.shared), "rbind", "rprivate", "rw"),
                *(
                    _mount(path, "bind", str(there), "rbind", "rw")
                    for path, there in self.shared_directories.items()
                ),
                *(_mount(path, "bind", str(there), "rbind", "ro") for path, there in self.volumes.items()),
                _mount("/etc/hostname", "bind", str(self.folder / "hostname"), "rbind", "rprivate", "rw"),
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in _NAMESPACES],
                "cgroupsPath": f"/{self.name}",
                "resources": {"devices": list(_DEVICES)},
                "devices": [
                    {"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666}
                    for path, (major, minor) in self.devices.items()
                ],
                "maskedPaths": list(_MASKED),
                "readonlyPaths": list(_READ_ONLY),
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [
                        {"names": forbidden, "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
                        # As RuntimeDefault does, so that programs fall back to clone.
                        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                    ],
                },
            },
        }


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, object]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}
