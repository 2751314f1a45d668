"""Every overlay builds, asks for no more rights than it needs, and agrees with the code about names and values."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
import yaml

import crikpy
from crikpy import names, tracing
from crikpy.cli.main import cli
from crikpy.settings import Settings, from_env
from tests.e2e.kubectl import Kubectl

pytestmark = pytest.mark.e2e

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = sorted(path.name for path in (ROOT / "controller/overlays").iterdir())


def _kubectl() -> str:
    ours = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crikpy/cluster/bin/kubectl"
    found = str(ours) if ours.exists() else shutil.which("kubectl")
    if not found:
        pytest.skip("needs kubectl: hack/cluster build makes one")
    return found


@functools.cache
def _built(folder: str) -> tuple[Json, ...]:
    done = subprocess.run(
        [_kubectl(), "kustomize", str(ROOT / folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> tuple[Json, ...]:
    """The objects of one overlay."""
    return _built(f"controller/overlays/{request.param}")


def one(objects: tuple[Json, ...], kind: str, name: str) -> Json:
    found = [each for each in objects if each["kind"] == kind and each["metadata"]["name"].startswith(name)]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


def pod_spec(objects: tuple[Json, ...], kind: str, name: str) -> Json:
    spec: Json = one(objects, kind, name)["spec"]["template"]["spec"]
    return spec


def rights(objects: tuple[Json, ...], account: str) -> Iterator[tuple[str, str, str, bool]]:
    """Yield what an account may do: group, resource, verb, and whether only to objects that are named."""
    bound = [
        (each["roleRef"]["kind"], each["roleRef"]["name"])
        for each in objects
        if each["kind"] in ("RoleBinding", "ClusterRoleBinding")
        and any(subject["name"] == account for subject in each["subjects"])
    ]
    for each in objects:
        if (each["kind"], each["metadata"]["name"]) not in bound:
            continue
        for rule in each["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        yield group, resource, verb, "resourceNames" in rule


def test_the_kind_of_checkpoints_is_installed(objects: tuple[Json, ...]) -> None:
    kind = one(objects, "CustomResourceDefinition", "checkpoints.crikpy.io")
    assert f"{kind['spec']['group']}/{kind['spec']['versions'][0]['name']}" == names.API_VERSION


def test_the_agent_may_touch_no_secret_and_of_checkpoints_only_the_status(objects: tuple[Json, ...]) -> None:
    found = list(rights(objects, "crikpy-agent"))
    assert found
    assert not [right for right in found if right[1] == "secrets"]
    writing = {"create", "update", "patch", "delete", "deletecollection", "*"}
    written = {resource for _, resource, verb, _ in found if verb in writing}
    assert written == {"checkpoints/status", "nodes", "nodes/status", "events"}


def test_the_controller_may_read_no_secret_but_its_own(objects: tuple[Json, ...]) -> None:
    found = [right for right in rights(objects, "crikpy-controller") if right[1] == "secrets"]
    assert {(verb, named) for _, _, verb, named in found} == {("create", False), ("get", True), ("update", True)}


def test_nobody_is_given_everything(objects: tuple[Json, ...]) -> None:
    for account in ("crikpy-agent", "crikpy-controller"):
        for right in rights(objects, account):
            assert "*" not in right, f"{account}: {right}"


def test_the_agent_runs_where_and_as_it_must(objects: tuple[Json, ...]) -> None:
    spec = pod_spec(objects, "DaemonSet", "crikpy-agent")
    assert spec["hostPID"] is True
    assert spec["hostNetwork"] is True
    assert spec["priorityClassName"] == "system-node-critical"
    assert {"operator": "Exists"} in spec["tolerations"]
    (agent,) = spec["containers"]
    assert agent["securityContext"]["privileged"] is True
    mounts = {mount["mountPath"]: mount for mount in agent["volumeMounts"]}
    assert mounts["/var/lib/kubelet"]["mountPropagation"] == "HostToContainer"
    assert str(Settings().agent.kubelet_dir) in mounts
    assert any(str(Settings().agent.state_dir).startswith(path) for path in mounts)


def test_the_controller_would_pass_pod_security_restricted(objects: tuple[Json, ...]) -> None:
    spec = pod_spec(objects, "Deployment", "crikpy-controller")
    assert not {"hostPID", "hostIPC", "hostNetwork"} & spec.keys()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
    assert all(
        set(volume) <= {"name", "emptyDir", "configMap", "secret", "projected"} for volume in spec["volumes"]
    )


def test_every_setting_that_is_given_exists_and_can_be_read(objects: tuple[Json, ...]) -> None:
    config = one(objects, "ConfigMap", "crikpy-config")["data"]
    given = dict(config)
    for kind, name in (("DaemonSet", "crikpy-agent"), ("Deployment", "crikpy-controller")):
        for container in pod_spec(objects, kind, name)["containers"]:
            given |= {each["name"]: each.get("value", "x") for each in container.get("env", ())}
    store = given.pop("CRIKPY_STORE")
    assert store
    ours = {name: value for name, value in given.items() if name.startswith(names.ENV_PREFIX)}
    settings = from_env(ours)
    assert str(settings.criu.node_root) == "/proc/1/root"


def test_ports_and_names_are_those_that_the_programs_use(objects: tuple[Json, ...]) -> None:
    settings = Settings()
    agent = pod_spec(objects, "DaemonSet", "crikpy-agent")["containers"][0]
    assert [port["containerPort"] for port in agent["ports"]] == [settings.agent.port]
    controller = pod_spec(objects, "Deployment", "crikpy-controller")["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in controller["ports"]}
    assert ports == {"webhook": settings.controller.webhook_port, "probes": settings.controller.port}
    service = one(objects, "Service", settings.controller.service)
    assert service["metadata"]["namespace"] == settings.controller.namespace
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for webhook in one(objects, kind, settings.controller.webhook_name)["webhooks"]:
            client = webhook["clientConfig"]["service"]
            assert (client["name"], client["namespace"]) == (service["metadata"]["name"], "crikpy-system")


def test_the_webhook_can_keep_no_pod_from_being_made(objects: tuple[Json, ...]) -> None:
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for webhook in one(objects, kind, "crikpy-webhook")["webhooks"]:
            assert webhook["failurePolicy"] == "Ignore"
            assert webhook["timeoutSeconds"] <= 10
            assert names.OPT_IN in webhook["matchConditions"][0]["expression"]
            excluded = webhook["namespaceSelector"]["matchExpressions"][0]
            assert excluded["operator"] == "NotIn"
            assert {"kube-system", "crikpy-system"} <= set(excluded["values"])


def test_the_images_are_those_of_this_release(objects: tuple[Json, ...]) -> None:
    images = [
        container["image"]
        for kind, name in (("DaemonSet", "crikpy-agent"), ("Deployment", "crikpy-controller"))
        for container in pod_spec(objects, kind, name)["containers"]
    ]
    images.append(one(objects, "ConfigMap", "crikpy-config")["data"]["CRIKPY_CONTROLLER_LAUNCHER_IMAGE"])
    assert {image.rpartition(":")[2] for image in images} == {crikpy.__version__}
    assert images[-1] == Settings().controller.launcher_image


def with_components(folder: Path, *components: str) -> tuple[Json, ...]:
    """Return the objects of the base together with components."""
    base = os.path.relpath(ROOT / "controller", folder)
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {"resources": [f"{base}/base"], "components": [f"{base}/components/{name}" for name in components]}
        )
    )
    done = subprocess.run([_kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def test_pull_secrets_are_read_only_where_somebody_asks_for_it(tmp_path: Path) -> None:
    found = with_components(tmp_path, "pull-secrets")
    assert ("", "secrets", "get", False) in set(rights(found, "crikpy-controller"))


def test_the_status_page_is_served_and_may_ask_only_where_somebody_asks_for_it(tmp_path: Path) -> None:
    def asked(objects: tuple[Json, ...]) -> set[tuple[str, str]]:
        wanted = ("events", "tokenreviews", "subjectaccessreviews")
        return {(kind, verb) for _, kind, verb, _ in rights(objects, "crikpy-controller") if kind in wanted}

    found, plain = with_components(tmp_path, "page"), with_components(tmp_path)
    assert asked(plain) == {("events", "create"), ("events", "patch")}
    assert asked(found) - asked(plain) == {
        *(("events", verb) for verb in ("list", "watch")),
        ("tokenreviews", "create"),
        ("subjectaccessreviews", "create"),
    }
    (controller,) = pod_spec(found, "Deployment", "crikpy-controller")["containers"]
    variables = {each["name"]: each["value"] for each in controller["env"] if "value" in each}
    port = from_env(variables).controller.page_port
    service = one(found, "Service", Settings().controller.page_service)["spec"]
    assert [each["targetPort"] for each in service["ports"]] == [port]
    opened = [rule["port"] for rule in one(found, "NetworkPolicy", "crikpy-page")["spec"]["ingress"][0]["ports"]]
    assert opened == [port]
    assert "PAGE" not in yaml.safe_dump(one(plain, "Deployment", "crikpy-controller"))


def test_keys_to_seal_with_come_from_a_secret_that_only_the_agent_has(tmp_path: Path) -> None:
    found = with_components(tmp_path, "sealed")
    spec = pod_spec(found, "DaemonSet", "crikpy-agent")
    (agent,) = spec["containers"]
    (path,) = [each["value"] for each in agent["env"] if each["name"] == "CRIKPY_STORE_KEY_FILE"]
    (mount,) = [each for each in agent["volumeMounts"] if path.startswith(each["mountPath"] + "/")]
    (volume,) = [each for each in spec["volumes"] if each["name"] == mount["name"]]
    assert (volume["secret"]["secretName"], volume["secret"]["defaultMode"]) == ("crikpy-keys", 0o400)
    assert mount["readOnly"]
    assert "crikpy-keys" not in yaml.safe_dump(one(found, "Deployment", "crikpy-controller"))


def test_monitoring_adds_monitors_of_both_processes_rules_and_the_dashboard(tmp_path: Path) -> None:
    found = with_components(tmp_path, "prometheus", "grafana")
    for name, kind in (("crikpy-agent", "DaemonSet"), ("crikpy-controller", "Deployment")):
        spec = one(found, "PodMonitor", name)["spec"]
        pod = one(found, kind, name)["spec"]["template"]
        assert spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        ports = [port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", [])]
        assert spec["podMetricsEndpoints"][0]["port"] in ports
        assert (spec["jobLabel"], pod["metadata"]["labels"]["app"]) == ("app", name)
    assert one(found, "PrometheusRule", "crikpy")["spec"]["groups"]
    dashboard = one(found, "ConfigMap", "crikpy-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert '"uid": "crikpy"' in dashboard["data"]["crikpy.json"]


def test_traces_name_a_collector_to_both_processes_that_they_can_find_and_reach(tmp_path: Path) -> None:
    found = with_components(tmp_path, "traces")
    config = one(found, "ConfigMap", "crikpy-config")
    assert tracing.wanted(config["data"])
    for kind, name in (("DaemonSet", "crikpy-agent"), ("Deployment", "crikpy-controller")):
        (container,) = pod_spec(found, kind, name)["containers"]
        assert {"configMapRef": {"name": config["metadata"]["name"]}} in container["envFrom"]
    assert pod_spec(found, "DaemonSet", "crikpy-agent")["dnsPolicy"] == "ClusterFirstWithHostNet"
    policy = one(found, "NetworkPolicy", "crikpy-traces")["spec"]
    labels = one(found, "Deployment", "crikpy-controller")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    port = urlsplit(config["data"]["OTEL_EXPORTER_OTLP_ENDPOINT"]).port
    assert [allowed["port"] for rule in policy["egress"] for allowed in rule["ports"]] == [port]


@pytest.mark.parametrize("components", [["sealed-kms"], ["tidy", "sealed-kms"]], ids="+".join)
def test_a_kms_key_to_seal_with_is_named_to_whoever_opens_the_store(tmp_path: Path, components: list[str]) -> None:
    found = with_components(tmp_path, *components)
    config = one(found, "ConfigMap", "crikpy-config")
    assert (
        from_env({"CRIKPY_STORE_KMS_KEY": config["data"]["CRIKPY_STORE_KMS_KEY"]}).store.kms_key == "alias/crikpy"
    )
    specs = [pod_spec(found, "DaemonSet", "crikpy-agent")]
    if "tidy" in components:
        specs.append(one(found, "CronJob", "crikpy-tidy")["spec"]["jobTemplate"]["spec"]["template"]["spec"])
    for spec in specs:
        (container,) = spec["containers"]
        assert {"configMapRef": {"name": config["metadata"]["name"]}} in container["envFrom"]
        assert "crikpy-keys" not in yaml.safe_dump(spec)


@pytest.mark.parametrize("components", [["tidy"], ["tidy", "sealed"]], ids="+".join)
def test_who_tidies_up_has_no_privilege_and_where_it_is_sealed_the_keys(
    tmp_path: Path, components: list[str]
) -> None:
    found = with_components(tmp_path, *components)
    spec = one(found, "CronJob", "crikpy-tidy")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert not {"hostPID", "hostIPC", "hostNetwork"} & spec.keys()
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["image"] == pod_spec(found, "DaemonSet", "crikpy-agent")["containers"][0]["image"]
    assert ("CRIKPY_STORE_KEY_FILE" in yaml.safe_dump(container)) == ("sealed" in components)
    verb, *options = container["args"]
    context = click.Context(cli)
    command = cli.get_command(context, verb)
    assert command is not None
    with command.make_context(verb, [*options, "--store=/store"], parent=context) as parsed:
        assert parsed.params["delete"]
        assert parsed.params["expired"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_api_server_takes_it(overlay: str) -> None:
    kubeconfig = os.environ.get("KUBECONFIG") or os.environ.get("CRIKPY_TEST_KUBECONFIG")
    if not kubeconfig:
        pytest.skip("needs a cluster: hack/test starts one, or set KUBECONFIG")
    kubectl = Kubectl(_kubectl(), Path(kubeconfig))
    if kubectl.find("namespace", "crikpy-system") is None:
        pytest.skip("the namespace must be there: a dry run makes none for the objects in it")
    kubectl(
        "apply",
        "--server-side",
        "--dry-run=server",
        "--force-conflicts",
        "-k",
        str(ROOT / "controller/overlays" / overlay),
    )
