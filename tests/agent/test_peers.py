"""Who may speak for a pod: read from the text of /proc as the kubelets of the world make it."""

from __future__ import annotations

import os
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crikpy.agent.peers import is_first_process, pods_of, require_launcher
from crikpy.errors import LauncherError

UID = "0f8b4a3c-7d61-4a51-9a5e-2f6f0c9d1e77"
FLAT = UID.replace("-", "_")
OTHER = "11111111-2222-3333-4444-555555555555"
STATIC = "5f3e2d1c0b9a88776655443322110000"


@pytest.mark.parametrize(
    ("membership", "pods"),
    [
        (f"0::/kubepods/burstable/pod{UID}/3f2a\n", {UID}),
        (f"0::/kubepods/pod{UID}/3f2a\n", {UID}),
        (
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{FLAT}.slice/cri-containerd-3f.scope\n",
            {UID},
        ),
        (f"0::/kubepods.slice/kubepods-pod{FLAT}.slice/crio-3f.scope\n", {UID}),
        (f"0::/../../kubepods-besteffort-pod{FLAT}.slice/cri-containerd-3f.scope\n", {UID}),
        (f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{FLAT}.slice/x.scope\n", {UID}),
        (
            f"12:memory:/kubepods/pod{UID}/3f\n1:name=systemd:/kubepods/pod{UID}/3f\n0::/\n",
            {UID},
        ),
        (f"12:memory:/kubepods/pod{STATIC}/3f\n", {STATIC}),
        # Below its own cgroup a container may make what it likes.
        (f"0::/kubepods/pod{UID}/3f/kubepods/pod{OTHER}/3f\n", {UID}),
        (f"2:cpu:/kubepods/pod{UID}/3f\n1:memory:/kubepods/pod{OTHER}/3f\n", set()),
        (f"0::/user.slice/not-a-pod-{UID}\n", set()),
        (f"0::/pod{UID}x/3f\n", set()),
        ("0::/system.slice/cron.service\n", set()),
        ("", set()),
    ],
)
def test_the_pod_of_a_process_is_read_from_its_cgroups(membership: str, pods: set[str]) -> None:
    assert pods_of(membership) == pods


@settings(deadline=None)
@given(st.uuids(), st.text(alphabet="abc/:-_.\n0123456789", max_size=80))
def test_no_other_text_makes_a_process_one_of_a_pod(uid: uuid.UUID, text: str) -> None:
    assert str(uid) not in pods_of(text)


@pytest.mark.parametrize(
    ("line", "first"),
    [("NSpid:\t4711\t1", True), ("NSpid:\t4711\t20\t1", True), ("NSpid:\t1", False), ("NSpid:\t4711\t2", False)],
)
def test_only_pid_1_of_a_namespace_below_is_a_first_process(line: str, first: bool) -> None:
    assert is_first_process(f"Name:\tlaunch\n{line}\nNSsid:\t4711\t1\n") is first


def test_this_process_is_nobodys_launcher() -> None:
    with pytest.raises(LauncherError, match="not the first process"):
        require_launcher(os.getpid(), UID)


def test_a_process_that_cannot_be_seen_is_no_launcher() -> None:
    with pytest.raises(LauncherError, match="hostPID"):
        require_launcher(0, UID)
    with pytest.raises(LauncherError, match="is gone"):
        require_launcher(2**22 + 1, UID)
