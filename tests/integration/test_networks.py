"""A job whose container has another address after a move goes on with sockets that are bound to that one."""

from __future__ import annotations

import pytest

from crikpy.errors import IncompatibleError
from tests.integration.moving import Bench
from tests.integration.networks import PodNetwork

pytestmark = pytest.mark.criu


@pytest.mark.vm
def test_sockets_of_the_old_address_are_at_the_new_one_after_each_move(container_bench: Bench) -> None:
    container_bench.network = PodNetwork()
    job = container_bench.begin("addresses")
    for _ in range(2):
        job.prove()
        job = container_bench.move(job)
    job.prove()
    assert job.finish() == 0, job.stderr.text()


def test_the_manifest_tells_what_a_job_uses_of_its_network(container_bench: Bench) -> None:
    container_bench.network = network = PodNetwork()
    job = container_bench.begin("addresses")
    found = container_bench.save(job).network
    global_ones = {each.address for each in found.addresses if not each.address.startswith("fe80:")}
    assert global_ones == set(network.given[0])
    assert {each.interface for each in found.addresses} == {"eth0", "peer"}
    assert found.bound == network.given[0]
    assert found.ipv6
    assert found.devices == ()


def test_a_job_that_is_bound_to_an_address_is_not_resumed_where_none_can_take_its_place(
    container_bench: Bench,
) -> None:
    container_bench.network = PodNetwork()
    job = container_bench.begin("addresses")
    manifest = container_bench.save(job)
    container_bench.network = PodNetwork(families=(6,))
    new = container_bench.vacant()
    with new.held() as launcher, pytest.raises(IncompatibleError, match=r"bound to 10\.77\.1\.2, and no IPv4"):
        container_bench.restore(manifest, new, launcher)
    assert container_bench.checkpoints.summary(manifest.checkpoint).claim is None
    container_bench.network = PodNetwork()
    container_bench.resume(manifest).prove()


def test_a_socket_that_is_bound_to_an_interface_stays_there_or_is_not_resumed(container_bench: Bench) -> None:
    container_bench.network = PodNetwork()
    job = container_bench.begin("devices", "eth0")
    manifest = container_bench.save(job)
    assert manifest.network.devices == ("eth0",)
    container_bench.network = PodNetwork(interface="net1")
    new = container_bench.vacant()
    with new.held() as launcher, pytest.raises(IncompatibleError, match="interface eth0, which is not here"):
        container_bench.restore(manifest, new, launcher)
    container_bench.network = PodNetwork()
    container_bench.resume(manifest).prove()
