"""Gives containers of the tests an interface with addresses of their own, as a pod's network plug-in does.

Made from outside, after the container is there and before its job begins. It goes with the container's network
namespace. Usable without pytest.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.integration.capsules import JobCapsule

_SCRIPT = """
ip link add "$1" type veth peer name peer
ip link set peer up
ip link set "$1" up
interface=$1
shift
for address in "$@"; do
    case $address in
        *:*) ip -6 addr add "$address"/128 dev "$interface" nodad; ip -6 route add default dev "$interface" ;;
        *) ip addr add "$address"/32 dev "$interface"; ip route add default dev "$interface" ;;
    esac
done
"""


def connect(capsule: JobCapsule, addresses: Sequence[str], interface: str = "eth0") -> None:
    """Give a container an interface with these addresses, and default routes through it."""
    within(capsule, "sh", "-euc", _SCRIPT, "sh", interface, *addresses)


def within(capsule: JobCapsule, *words: str) -> str:
    """Run a program of the machine in a container's network; return what it says."""
    enter = ("nsenter", f"--net=/proc/{capsule.launcher_pid}/ns/net", "--")
    done = subprocess.run((*enter, *words), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class PodNetwork:
    """Gives each container of a bench addresses that no other has.

    Attributes:
        families: 4 and 6, in any choice.
        interface: its name in the containers to come.
        given: the addresses of each container so far.
    """

    families: tuple[int, ...] = (4, 6)
    interface: str = "eth0"
    given: list[tuple[str, ...]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __call__(self, capsule: JobCapsule) -> None:
        """Connect a container that has just been made."""
        number = next(self._numbers)
        both = {4: f"10.77.{number}.2", 6: f"fd00:77::{number}"}
        self.given.append(tuple(both[family] for family in self.families))
        connect(capsule, self.given[-1], self.interface)
