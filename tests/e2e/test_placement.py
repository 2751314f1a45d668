"""A checkpoint that needs what no machine here has: it is said, the pod is moved once, and begins anew.

All nodes of the test cluster have the same CPU, so the checkpoint is rewritten while its pod's successor waits.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace

import pytest

from crikpy import names
from crikpy.store.manifests import decode_manifest, encode_manifest
from tests.e2e.cluster import Cluster, Notices
from tests.e2e.installing import Installation
from tests.e2e.kubectl import Json, wait_for
from tests.e2e.pods import Namespace, Watched, running
from tests.e2e.workloads import deployment, template

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

NOBODYS = "avx9999"
"""A feature of a CPU that is not built yet."""


def doctor(installation: Installation, namespace: str) -> None:
    """Have the one checkpoint of a namespace need a feature that no CPU has."""
    with contextlib.closing(installation.open_store()) as store:
        prefix = f"{installation.CLUSTER}/{namespace}/"
        (key,) = [found.key for found in store.list(prefix) if found.key.endswith(f"/{names.MANIFEST}")]
        manifest = decode_manifest(bytes(store.get(key)))
        features = tuple(sorted({*manifest.compatibility.cpu_features, NOBODYS}))
        needs = replace(manifest.compatibility, cpu_features=features)
        store.put(key, encode_manifest(replace(manifest, compatibility=needs)))


def pods_after(place: Namespace, app: str, *before: str) -> list[Json]:
    """Return the pods of a workload that are none of those, by UID."""
    return [pod for pod in place.pods(app) if pod["metadata"]["uid"] not in before]


def test_every_node_tells_what_its_cpu_offers_to_programs(installed: Cluster) -> None:
    def told(node: str) -> Json | None:
        metadata: Json = installed.kubectl.get("node", node)["metadata"]
        return metadata if {names.LABEL_CPU, names.LABEL_FAMILY} <= metadata["labels"].keys() else None

    for name in installed.nodes:
        metadata = wait_for(f"what {name} tells of its CPU", lambda name=name: told(name))  # type: ignore[misc]
        assert re.fullmatch("[0-9a-f]{16}", metadata["labels"][names.LABEL_CPU])
        assert "sse2" in metadata["annotations"][names.CPU_FEATURES].split()
        kind = metadata["labels"][names.LABEL_WELL_KNOWN_TYPE]
        assert metadata["labels"][names.LABEL_FAMILY] == kind.partition(".")[0]


@pytest.mark.parametrize("wish", ["move", "start"])
def test_a_pod_on_a_machine_that_lacks_what_its_checkpoint_needs(
    installation: Installation, installed: Cluster, notices: Notices, place: Namespace, wish: str
) -> None:
    first, *others = installed.nodes
    with installed.cordoned(*others):
        place.apply(deployment("odd", template(app="odd", annotations={names.MISFIT: wish}), replicas=1))
        (pod,) = place.watch("odd")
        notices.spot(first)
        try:
            place.await_phase(pod, "Complete")
            wait_for("its end", lambda: place.kubectl.find("pod", pod.name, place.name) is None)
            doctor(installation, place.name)
        finally:
            notices.withdraw(first)
        # Where it was saved is free again only after the successor has come to the other node.
        with installed.cordoned(first):
            installed.kubectl("uncordon", others[0])
            misfit = wait_for("the successor", lambda: pods_after(place, "odd", pod.uid))[0]
            told = place.await_event(misfit["metadata"]["name"], "DoesNotFit")
            assert NOBODYS in told["message"]
            if wish == "start":
                assert_begins_anew(place, pod, misfit)
                return
    notices.withdraw_all([first])
    assert_moved_once(place, pod, misfit)


def assert_moved_once(place: Namespace, saved: Watched, misfit: Json) -> None:
    """See that the pod is ended, and that its successor is kept to nodes that fit and then begins anew."""
    uid = misfit["metadata"]["uid"]
    successor = wait_for("the pod to be moved", lambda: pods_after(place, "odd", saved.uid, uid))[0]
    assert order_of(place, saved)["status"]["misfit"].endswith(f"/{uid}")
    affinity = successor["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert any(rule["key"] == names.LABEL_CPU for term in terms for rule in term["matchExpressions"])
    place.await_event(successor["metadata"]["name"], "DoesNotFit")
    assert_begins_anew(place, saved, successor)


def assert_begins_anew(place: Namespace, saved: Watched, pod: Json) -> None:
    """See that a pod runs its job from the beginning, and stays."""
    name = pod["metadata"]["name"]
    counts = wait_for("its first steps", lambda: place.counts(name))
    assert counts[0].step == 0
    assert counts[0].life != saved.counts()[0].life
    (still,) = [found for found in place.pods("odd") if running(found)]
    assert still["metadata"]["uid"] == pod["metadata"]["uid"]


def order_of(place: Namespace, pod: Watched) -> Json:
    """Return the Checkpoint object by which a pod was saved."""
    order = place.order_of(pod)
    assert order is not None
    return order
