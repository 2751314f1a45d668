"""What is missing in a cluster for pods to be saved: from a Survey to findings, each with a remedy.

Pure: the same picture and the same time give the same findings, in the order in which a person would repair them.
What could not be read is a warning and never a fault, for whoever asks may have fewer rights than crikpy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from crikpy import names
from crikpy.kube import raw
from crikpy.kube.certificates import bundles_of, expiry_of
from crikpy.kube.judging_nodes import few, judge_nodes, judge_pods
from crikpy.kube.raw import Json
from crikpy.kube.surveying import DEFINITION, Survey, pods_of
from crikpy.model.health import Finding, Verdict
from crikpy.names import AGENT, CONTROLLER, WEBHOOK

_OLDEST: Final = (1, 31)
_SOON: Final = timedelta(days=7)
_INSTALL: Final = "install crikpy: docs/install.md"
_PARTS: Final = {
    "definition": ("crd", f"the CRD {DEFINITION}"),
    "home": ("namespace", "crikpy's namespace"),
    "config": ("store", "the config map of the agents"),
    "daemon_set": ("agents", f"the DaemonSet {AGENT}"),
    "deployment": ("controller", f"the Deployment {CONTROLLER}"),
    "lease": ("leader", f"the Lease {CONTROLLER}"),
    "mutating": ("webhook", f"the MutatingWebhookConfiguration {WEBHOOK}"),
    "validating": ("webhook-templates", f"the ValidatingWebhookConfiguration {WEBHOOK}"),
    "slices": ("webhook-service", f"the endpoints of the service {WEBHOOK}"),
    "nodes": ("nodes", "the nodes"),
    "pods": ("pods", "the pods"),
    "events": ("events", "the events of pods"),
    "metrics": ("sources", "the metrics of agents and controllers"),
}
_NUMBERS: Final = re.compile(r"\D*(\d+)\.(\d+)")


def judge(seen: Survey, now: datetime, ours: str) -> tuple[Finding, ...]:
    """Return what was found, ill or well.

    Args:
        seen: the picture.
        now: aware UTC.
        ours: version of the program that judges.
    """
    found: list[Finding] = [_api(seen)]
    for part, finding in (
        ("definition", _definition),
        ("home", _home),
        ("config", _store),
        ("daemon_set", _agents),
        ("deployment", _controller),
    ):
        if part not in seen.unread:
            found.append(finding(seen))
    if "lease" not in seen.unread:
        found.append(_leader(seen, now))
    found += [finding for finding in _webhooks(seen, now) if finding.name not in _unreadable(seen)]
    if "slices" not in seen.unread:
        found.append(_service(seen))
    found += [*_versions(seen, ours), *_sources(seen), *judge_nodes(seen), *judge_pods(seen)]
    return (*found, *_rights(seen))


def _ok(name: str, fact: str) -> Finding:
    return Finding(name=name, verdict=Verdict.OK, fact=fact)


def _warning(name: str, fact: str, remedy: str) -> Finding:
    return Finding(name=name, verdict=Verdict.WARNING, fact=fact, remedy=remedy)


def _failed(name: str, fact: str, remedy: str) -> Finding:
    return Finding(name=name, verdict=Verdict.FAILED, fact=fact, remedy=remedy)


def _unreadable(seen: Survey) -> set[str]:
    return {_PARTS[part][0] for part in seen.unread if part in _PARTS}


def _rights(seen: Survey) -> Iterator[Finding]:
    for part, why in seen.unread.items():
        name, what = _PARTS.get(part, (part, part))
        remedy = "ask as somebody who may, such as a cluster administrator; the rest was checked all the same"
        yield _warning(f"rights-{name}", f"{what} could not be read: {why}", remedy)


def _api(seen: Survey) -> Finding:
    version = raw.text(raw.mapping(seen.version).get("gitVersion"))
    number = _number(version)
    if number is None:
        return _warning(
            "api", "the API server answers, and does not say its version", "crikpy needs 1.31 or newer"
        )
    if number < _OLDEST:
        return _failed("api", f"Kubernetes {version}, which is too old", "crikpy needs 1.31 or newer")
    return _ok("api", f"Kubernetes {version}")


def _number(version: str) -> tuple[int, int] | None:
    found = _NUMBERS.match(version)
    return (int(found[1]), int(found[2])) if found else None


def _definition(seen: Survey) -> Finding:
    if seen.definition is None:
        return _failed("crd", f"there is no CRD {DEFINITION}", _INSTALL)
    wanted = names.API_VERSION.partition("/")[2]
    spec = raw.mapping(seen.definition.get("spec"))
    versions = {raw.text(one.get("name")): one for one in raw.items(spec.get("versions"))}
    version = versions.get(wanted, {})
    if version.get("served") is not True:
        what = f"{DEFINITION} serves {', '.join(sorted(versions)) or 'nothing'}, and this release needs {wanted}"
        return _failed("crd", what, "apply controller/crd of this release")
    paths = [raw.text(one.get("jsonPath")) for one in raw.items(version.get("selectableFields"))]
    if ".spec.nodeName" not in paths:
        what = f"{DEFINITION} is another release's: agents could not choose the orders of their nodes"
        return _failed("crd", what, "apply controller/crd of this release")
    return _ok("crd", f"{DEFINITION}, {wanted}")


def _home(seen: Survey) -> Finding:
    if seen.home is None:
        return _failed("namespace", f"there is no namespace {seen.namespace}", _INSTALL)
    labels = raw.string_map(raw.mapping(seen.home.get("metadata")).get("labels"))
    key = "pod-security.kubernetes.io/enforce"
    level = labels.get(key, "")
    if level == "privileged":
        return _ok("namespace", f"{seen.namespace} permits privileged pods, as the agents are")
    command = f"kubectl label namespace {seen.namespace} {key}=privileged --overwrite"
    if level:
        return _failed("namespace", f"Pod Security permits only {level} pods in {seen.namespace}", command)
    what = f"{seen.namespace} has no label {key}: whether agents may be privileged is up to the cluster's default"
    return _warning("namespace", what, command)


def _store(seen: Survey) -> Finding:
    if seen.config is None:
        return _failed("store", "there is no config map for the agents", _INSTALL)
    name = raw.text(raw.mapping(seen.config.get("metadata")).get("name"))
    url = raw.string_map(seen.config.get("data")).get("CRIKPY_STORE", "")
    if not url:
        return _failed("store", f"the config map {name} has no CRIKPY_STORE", "name a store: docs/install.md")
    return _ok("store", f"{url}, by the config map {name}; the nodes say below whether they reach it")


def _agents(seen: Survey) -> Finding:
    if seen.daemon_set is None:
        return _failed("agents", f"there is no DaemonSet {AGENT} in {seen.namespace}", _INSTALL)
    status = raw.mapping(seen.daemon_set.get("status"))
    wanted = raw.number(status.get("desiredNumberScheduled"))
    ready = raw.number(status.get("numberReady"))
    if not wanted:
        return _failed("agents", f"the DaemonSet {AGENT} wants no node", "see its nodeSelector and tolerations")
    if ready < wanted:
        remedy = f"kubectl -n {seen.namespace} get pods -l app={AGENT} -o wide; kubectl describe those not ready"
        return _failed("agents", f"{ready} of {wanted} are ready", remedy)
    return _ok("agents", f"{ready} of {wanted} are ready")


def _controller(seen: Survey) -> Finding:
    if seen.deployment is None:
        return _failed("controller", f"there is no Deployment {CONTROLLER} in {seen.namespace}", _INSTALL)
    wanted = raw.number(raw.mapping(seen.deployment.get("spec")).get("replicas"), 1)
    ready = raw.number(raw.mapping(seen.deployment.get("status")).get("readyReplicas"))
    remedy = f"kubectl -n {seen.namespace} describe pods -l app={CONTROLLER}"
    if not ready:
        return _failed("controller", f"none of {wanted} replicas is ready", remedy)
    if ready < wanted:
        return _warning("controller", f"{ready} of {wanted} replicas are ready", remedy)
    return _ok("controller", f"{ready} of {wanted} replicas are ready")


def _leader(seen: Survey, now: datetime) -> Finding:
    spec = raw.mapping(raw.mapping(seen.lease).get("spec"))
    holder = raw.text(spec.get("holderIdentity")).rpartition("_")[0] or raw.text(spec.get("holderIdentity"))
    renewed = raw.time(spec.get("renewTime"))
    remedy = f"see the log: kubectl -n {seen.namespace} logs -l app={CONTROLLER}"
    if not holder or renewed is None:
        return _failed("leader", "no controller leads: nothing is ordered, evicted or marked", remedy)
    age_s = (now - renewed).total_seconds()
    # Clocks differ, and a Lease is renewed several times in its life: only what is clearly old is old.
    if age_s > 4 * max(15, raw.number(spec.get("leaseDurationSeconds"))):
        return _failed("leader", f"{holder} has not renewed its lease for {age_s:.0f} s", remedy)
    return _ok("leader", holder)


def _webhooks(seen: Survey, now: datetime) -> Iterator[Finding]:
    for name, configuration in (("webhook", seen.mutating), ("webhook-templates", seen.validating)):
        yield _webhook(name, configuration, now, seen.namespace)


def _webhook(name: str, configuration: Json | None, now: datetime, namespace: str) -> Finding:
    if configuration is None:
        return _failed(name, f"{WEBHOOK} is not configured: no pod gets the launcher", _INSTALL)
    hooks = list(raw.items(configuration.get("webhooks")))
    if not hooks:
        return _failed(name, f"the configuration {WEBHOOK} has no webhooks", _INSTALL)
    logs = f"the controller writes it: kubectl -n {namespace} logs -l app={CONTROLLER}"
    ends = [expiry_of(bundle) for bundle in bundles_of(configuration)]
    until = min((end for end in ends if end is not None), default=None)
    if until is None or None in ends:
        return _failed(name, "it has no certificate authority, so that the API server cannot ask it", logs)
    if until <= now:
        return _failed(name, f"its certificate authority ended at {until:%Y-%m-%d %H:%M} UTC", logs)
    if until - now < _SOON:
        return _warning(name, f"its certificate authority ends at {until:%Y-%m-%d %H:%M} UTC", logs)
    strict = [raw.text(hook.get("name")) for hook in hooks if hook.get("failurePolicy") != "Ignore"]
    if strict:
        what = f"{', '.join(strict)}: without a controller, no opted-in pod could be made"
        return _warning(name, what, "set failurePolicy: Ignore, as the base has it")
    return _ok(name, f"fails open; its certificate authority is valid until {until:%Y-%m-%d}")


def _service(seen: Survey) -> Finding:
    ends = [end for part in seen.slices or () for end in raw.items(part.get("endpoints"))]
    ready = [end for end in ends if raw.mapping(end.get("conditions")).get("ready") is not False]
    if ready:
        return _ok("webhook-service", f"endpoints of {WEBHOOK} that answer: {len(ready)}")
    look = f"kubectl -n {seen.namespace} get pods -l app={CONTROLLER}"
    return _failed(
        "webhook-service",
        f"the service {WEBHOOK} has no ready endpoint",
        f"{look}; no pod gets the launcher until one is ready",
    )


def _versions(seen: Survey, ours: str) -> Iterator[Finding]:
    found = {"crikpy": ours}
    for name, workload in (("agent", seen.daemon_set), ("controller", seen.deployment)):
        if workload is not None and (tag := _tag(workload)):
            found[name] = tag
    told = ", ".join(f"{name} {version}" for name, version in found.items())
    minors = sorted(number for version in found.values() if (number := _number(version)) is not None)
    if not minors or len(found) == 1:
        return
    oldest, newest = minors[0], minors[-1]
    if oldest[0] != newest[0] or newest[1] - oldest[1] > 1:
        yield _warning("versions", f"too far from each other: {told}", "upgrade one release at a time, all parts")
    else:
        yield _ok("versions", told)
    if seen.config is not None:
        image = raw.string_map(seen.config.get("data")).get("CRIKPY_CONTROLLER_LAUNCHER_IMAGE", "")
        yield _ok("launcher-image", image or "the default of the controller's release")


def _tag(workload: Json) -> str:
    spec = raw.mapping(raw.mapping(raw.mapping(workload.get("spec")).get("template")).get("spec"))
    for container in raw.items(spec.get("containers")):
        image = raw.text(container.get("image")).partition("@")[0].rpartition("/")[2]
        if _number(image.partition(":")[2]):
            return image.partition(":")[2]
    return ""


def _sources(seen: Survey) -> Iterator[Finding]:
    """Judge where notices come from, by the figures of agents and controllers; nothing where those are unread."""
    agents = pods_of(seen.pods or (), seen.namespace, AGENT)
    told = {name: figures for name, figures in seen.metrics.items() if name in agents}
    silent = sorted(
        raw.text(raw.mapping(agents[name].get("spec")).get("nodeName"))
        for name, figures in told.items()
        if figures.get("crikpy_metadata_reachable") == 0
    )
    if silent:
        what = f"the metadata service does not answer agents on {few(silent)}"
        remedy = "notices reach those nodes by other sources only (docs/sources.md); on EC2, see IMDS's settings"
        yield _warning("metadata", what, remedy)
    elif told:
        yield _ok("metadata", f"agents that it answers: {len(told)}")
    sources = {
        (key.partition('source="')[2].rstrip('"}'), value)
        for name, figures in seen.metrics.items()
        if name not in agents
        for key, value in figures.items()
        if key.startswith("crikpy_source_working")
    }
    working = {source for source, value in sources if value == 1}
    for source in sorted({source for source, _ in sources}):
        if source in working:
            yield _ok(f"source-{source}", "works")
        else:
            yield _warning(f"source-{source}", "is on and does not work", "docs/sources.md, and the leader's log")
