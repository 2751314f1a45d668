"""The chart installs what kustomize does, changes what its values say, and refuses values that are wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

import crikpy
from crikpy import names
from crikpy.settings import from_env
from tests.manifests.charts import CHART, ROOT, Json, helm, kustomized, rendered

pytestmark = pytest.mark.e2e

Key = tuple[str, str]
S3 = {"url": "s3://my-bucket/crikpy", "region": "eu-central-1"}
STORES: dict[str, Json] = {
    "eks-pod-identity": S3,
    "eks-irsa": {**S3, "roleArn": "arn:aws:iam::111122223333:role/crikpy-agent"},
    "s3-compatible": {
        "url": "s3://crikpy/jobs",
        "region": "us-east-1",
        "endpoint": "http://seaweedfs-s3.seaweedfs.svc.cluster.local:8333",
    },
    "directory": {},
    "nfs": {"nfs": {"server": "nfs.example.com", "path": "/crikpy"}},
}
"""The values by which each store of the overlays is asked for, as the overlay itself has it."""

COMPONENTS: dict[str, Json] = {
    "off-spot": {"offSpot": True},
    "pull-secrets": {"readPullSecrets": True},
    "tidy": {"tidy": {"enabled": True}},
    "sealed": {"sealed": {"enabled": True}},
    "sealed-kms": {"sealedKms": {"enabled": True}},
    "prometheus": {"prometheus": {"enabled": True}},
    "grafana": {"grafana": {"enabled": True}},
    "page": {"page": {"enabled": True}},
    "traces": {"traces": {"endpoint": "http://otel-collector.observability.svc.cluster.local:4318"}},
}
"""The values that ask for each component, in the order in which the chart takes them."""

CASES = [
    *((kind, ()) for kind in STORES),
    *(("directory", (name,)) for name in COMPONENTS),
    ("eks-irsa", ("pull-secrets", "tidy", "sealed")),
    ("s3-compatible", ("off-spot", "tidy", "sealed-kms", "prometheus", "grafana", "page", "traces")),
]


def wanted(kind: str = "directory", /, **more: Any) -> Json:
    """Return values that install."""
    return {"cluster": "my-cluster", "store": {"kind": kind, **STORES[kind]}, **more}


def by_name(objects: Iterable[Json]) -> dict[Key, Json]:
    """Return objects by kind and name, without the hash that kustomize puts behind the name of the ConfigMap."""
    found = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    return {
        (kind, "crikpy-config" if name.startswith("crikpy-config-") else name): each
        for (kind, name), each in found.items()
    }


def installed(objects: Iterable[Json]) -> dict[Key, Json]:
    """Return what stays on the cluster, without the few things that Helm does in another way than kustomize."""
    found = by_name(each for each in objects if "helm.sh/hook" not in (each["metadata"].get("annotations") or {}))
    for each in found.values():
        labels = each["metadata"]["labels"]
        assert labels.pop("helm.sh/chart") == f"crikpy-{crikpy.__version__}"
        assert labels.pop("app.kubernetes.io/managed-by") == "Helm"
        if not labels:
            del each["metadata"]["labels"]
        if each["kind"] in ("DaemonSet", "Deployment"):
            del each["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
    return found


def as_helm_does(objects: Iterable[Json]) -> dict[Key, Json]:
    """Return what kustomize builds, without the few things that Helm does in another way."""
    found = by_name(objects)
    del found["Namespace", "crikpy-system"]  # `helm install` must find it
    found.pop(("Secret", "crikpy-store"), None)  # which is to exist
    hashed = found["ConfigMap", "crikpy-config"]["metadata"]["name"]
    return by_name(yaml.safe_load_all(yaml.safe_dump_all(found.values()).replace(hashed, "crikpy-config")))


@pytest.mark.parametrize(
    ("kind", "components"), CASES, ids=lambda each: each if isinstance(each, str) else "+".join(each)
)
def test_the_chart_makes_the_very_objects_that_kustomize_makes(
    kind: str, components: tuple[str, ...], tmp_path: Path
) -> None:
    values = wanted(kind)
    for name in components:
        values |= COMPONENTS[name]
    folders = [f"controller/components/{name}" for name in components]
    expected = as_helm_does(kustomized([f"controller/overlays/{kind}"], folders, tmp_path))
    found = installed(rendered(values, tmp_path))
    assert found.keys() == expected.keys()
    for key, each in expected.items():
        assert found[key] == each, key


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [("https://otlp.example.com", 443), ("http://10.0.0.7/otlp", 80), ("http://[fd00::7]:14318", 14318)],
)
def test_the_controller_may_reach_the_collector_at_its_own_port(endpoint: str, port: int, tmp_path: Path) -> None:
    found = by_name(rendered(wanted(traces={"endpoint": endpoint}), tmp_path))
    policy = found["NetworkPolicy", "crikpy-traces"]["spec"]
    assert [allowed["port"] for rule in policy["egress"] for allowed in rule["ports"]] == [port]
    assert found["ConfigMap", "crikpy-config"]["data"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == endpoint


def test_every_overlay_and_component_can_be_asked_for() -> None:
    assert {path.name for path in (ROOT / "controller/overlays").iterdir()} == STORES.keys()
    assert {path.name for path in (ROOT / "controller/components").iterdir()} == COMPONENTS.keys()


def test_what_takes_it_off_again_is_the_kustomization_of_that_name_run_before_anything_is_removed(
    tmp_path: Path,
) -> None:
    expected = by_name(kustomized(["controller/uninstall"], [], tmp_path))
    found = by_name(rendered(wanted(), tmp_path))
    for key, each in expected.items():
        hook = found[key]["metadata"].pop("annotations")
        assert hook["helm.sh/hook"] == "pre-delete"
        assert hook["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
        assert int(hook["helm.sh/hook-weight"]) == (0 if each["kind"] == "Job" else -5)
        for label in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
            del found[key]["metadata"]["labels"][label]
        if each["kind"] == "Job":
            (container,) = found[key]["spec"]["template"]["spec"]["containers"]
            assert container.pop("args") == [
                *each["spec"]["template"]["spec"]["containers"][0].pop("args"),
                "--timeout=600s",
            ]
        assert found[key] == each, key
    off = by_name(rendered(wanted(uninstall={"enabled": False}), tmp_path))
    assert not expected.keys() & off.keys()


def pod_spec(objects: Iterable[Json], kind: str) -> Json:
    (found,) = [each for each in objects if each["kind"] == kind]
    spec: Json = (found["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else found["spec"])["template"]["spec"]
    return spec


def settings(objects: Iterable[Json]) -> dict[str, str]:
    (found,) = [each for each in objects if each["kind"] == "ConfigMap"]
    return dict(found["data"])


def test_images_come_from_the_registry_and_by_the_digests_that_are_given(tmp_path: Path) -> None:
    digests = {
        name: f"sha256:{number * 64}"
        for number, name in zip("123", ("agent", "controller", "launcher"), strict=True)
    }
    image = {
        "registry": "registry.example:5000/ours",
        "tag": "v9",
        "digests": digests,
        "pullPolicy": "Never",
        "pullSecrets": ["a"],
    }
    objects = rendered(wanted(image=image, tidy={"enabled": True}), tmp_path)
    for kind, name in (
        ("DaemonSet", "agent"),
        ("CronJob", "agent"),
        ("Deployment", "controller"),
        ("Job", "controller"),
    ):
        spec = pod_spec(objects, kind)
        assert spec["imagePullSecrets"] == [{"name": "a"}]
        for container in spec["containers"]:
            assert container["image"] == f"registry.example:5000/ours/{name}:v9@{digests[name]}"
            assert container["imagePullPolicy"] == "Never"
    assert settings(objects)["CRIKPY_CONTROLLER_LAUNCHER_IMAGE"].endswith(f"/launcher:v9@{digests['launcher']}")


@pytest.mark.parametrize(("part", "kind"), [("agent", "DaemonSet"), ("controller", "Deployment")])
def test_where_and_how_a_workload_runs_can_be_changed(part: str, kind: str, tmp_path: Path) -> None:
    before = copy.deepcopy(pod_spec(rendered(wanted(), tmp_path), kind))
    change: Json = {
        "resources": {"requests": {"cpu": "1"}},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "nodeSelector": {"pool": "b"},
        "priorityClassName": "c",
    }
    after = pod_spec(rendered(wanted(**{part: change}), tmp_path), kind)
    assert after.pop("nodeSelector") == before.pop("nodeSelector") | {"pool": "b"}
    assert after["containers"][0].pop("resources") == change["resources"]
    assert (after.pop("tolerations"), after.pop("priorityClassName")) == (change["tolerations"], "c")
    before.pop("tolerations", None)
    del before["containers"][0]["resources"], before["priorityClassName"]
    assert after == before


def test_settings_are_given_by_their_variables_and_count_more_than_other_values(tmp_path: Path) -> None:
    more = {
        "CRIKPY_STORE_MEMORY_BYTES": 1073741824,
        "CRIKPY_NOTICES_IMDS_ENABLED": False,
        "CRIKPY_KUBE_CLUSTER": "other",
    }
    before = rendered(wanted(), tmp_path)
    after = rendered(wanted(settings=more, notices={"queueUrl": "https://sqs.example/q"}), tmp_path)
    found = settings(after)
    assert found["CRIKPY_KUBE_CLUSTER"] == "other"
    read = from_env({name: value for name, value in found.items() if name != "CRIKPY_STORE"})
    assert read.store.memory_bytes == 1073741824
    assert read.sources.queue_url == "https://sqs.example/q"
    checksums = [
        by_name(objects)["DaemonSet", "crikpy-agent"]["spec"]["template"]["metadata"]["annotations"][
            "checksum/config"
        ]
        for objects in (before, after)
    ]
    assert checksums[0] != checksums[1], "a change of a setting must restart what reads it"


def test_secrets_and_roles_are_those_that_are_named(tmp_path: Path) -> None:
    values = wanted("s3-compatible", sealed={"enabled": True, "secret": "my-keys"})
    values["store"]["secret"] = "my-store"
    objects = rendered(values, tmp_path)
    assert "Secret" not in {each["kind"] for each in objects}
    text = yaml.safe_dump_all(objects)
    assert "my-keys" in text and "crikpy-keys" not in text
    assert "my-store" in text and "name: crikpy-store" not in text
    role = "arn:aws:iam::111122223333:role/queue"
    objects = rendered(
        wanted("eks-irsa", notices={"queueUrl": "https://sqs.example/q", "roleArn": role}), tmp_path
    )
    account = by_name(objects)["ServiceAccount", "crikpy-controller"]
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == role


def test_everything_goes_into_the_namespace_of_the_release(tmp_path: Path) -> None:
    objects = rendered(wanted(), tmp_path, namespace="elsewhere")
    assert "crikpy-system" not in yaml.safe_dump_all(objects)
    policy = by_name(objects)["ValidatingAdmissionPolicy", "crikpy-agent-own-node"]
    assert "system:serviceaccount:elsewhere:crikpy-agent" in policy["spec"]["matchConditions"][0]["expression"]


def test_the_kind_of_checkpoints_is_upgraded_with_the_chart_and_kept_only_if_asked_for(tmp_path: Path) -> None:
    key = ("CustomResourceDefinition", f"checkpoints.{names.DOMAIN}")
    assert "helm.sh/resource-policy" not in by_name(rendered(wanted(), tmp_path))[key]["metadata"].get(
        "annotations", {}
    )
    kept = by_name(rendered(wanted(crd={"keep": True}), tmp_path))[key]
    assert kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not (CHART / "crds").exists(), "Helm never upgrades what lies there"


def without(path: str) -> Callable[[], Json]:
    def values() -> Json:
        made = copy.deepcopy(
            wanted({"roleArn": "eks-irsa", "endpoint": "s3-compatible", "nfs": "nfs"}.get(path, "eks-irsa"))
        )
        if path == "cluster":
            del made["cluster"]
        else:
            del made["store"][path]
        return made

    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (without("cluster"), "cluster: give this cluster a name"),
        (without("url"), "store.url: eks-irsa needs s3://BUCKET/PREFIX"),
        (without("roleArn"), "store.roleArn: eks-irsa needs the ARN"),
        (without("endpoint"), "store.endpoint: s3-compatible needs the server's URL"),
        (without("nfs"), "store.nfs.server: nfs needs"),
        (lambda: wanted(sealed={"enabled": True}, sealedKms={"enabled": True}), "enable one of the two"),
        (lambda: wanted(store={"kind": "floppy"}), "store.kind"),
        (lambda: wanted(store={"kind": "eks-irsa", "url": "my-bucket"}), "does not match pattern"),
        (lambda: wanted(tidy={"enabled": "yes"}), "tidy.enabled"),
        (lambda: wanted(tidy={"ttl": "30 days"}), "tidy.ttl"),
        (lambda: wanted(setings={}), "setings"),
        (lambda: wanted(store={"kind": "directory", "dir": "/x"}), "'dir'"),
        (lambda: wanted(image={"digests": {"agent": "latest"}}), "image.digests.agent"),
        (lambda: wanted(settings={"STORE": "x"}), "invalid propertyName 'STORE'"),
        (lambda: wanted(uninstall={"checkpoints": "burn"}), "uninstall.checkpoints"),
    ],
)
def test_bad_values_are_refused_with_what_is_wrong(
    values: Callable[[], Json], message: str, tmp_path: Path
) -> None:
    done = helm("template", "crikpy", CHART, values=values(), folder=tmp_path)
    assert done.returncode != 0
    assert message.replace(".", "/") in done.stderr or message in done.stderr, done.stderr


def test_every_value_is_explained_and_known_to_the_schema(tmp_path: Path) -> None:
    done = helm("lint", "--strict", CHART, values=wanted(), folder=tmp_path)
    assert done.returncode == 0, done.stdout
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (version["version"], version["appVersion"]) == (crikpy.__version__, crikpy.__version__)
