"""What is said of pod templates when they are applied, where a person is there to read it.

Pods of a Job or Deployment are made by a controller, and what the webhook says of them is lost in its log. So the
same annotations are checked on the template, and advice is given that only its owner can follow. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from crikpy import names
from crikpy.kube import raw
from crikpy.kube.raw import Json

_RULE: Final = "{rules: [{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]}"
_DEFAULT_BACKOFF = 6


def template_of(kind: str, workload: Json) -> Json:
    """Return the pod template of a Job, CronJob, Deployment or StatefulSet; an empty one where there is none."""
    return raw.mapping(raw.mapping(_innermost(kind, workload).get("spec")).get("template"))


def pod_of(kind: str, workload: Json, namespace: str) -> Json:
    """Return a pod as it would be made from the template, owner included."""
    template = template_of(kind, workload)
    name = raw.text(raw.mapping(workload.get("metadata")).get("name"))
    owner = {"kind": kind, "name": name, "uid": "", "controller": True}
    metadata = raw.mapping(template.get("metadata")) | {"namespace": namespace, "ownerReferences": [owner]}
    return {"metadata": metadata, "spec": raw.mapping(template.get("spec"))}


def misplaced_warnings(kind: str, workload: Json) -> Iterator[str]:
    """Yield what to say of our annotations where they do nothing: on the workload instead of on its pods."""
    inside = raw.string_map(raw.mapping(template_of(kind, workload).get("metadata")).get("annotations"))
    for level in (workload, _innermost(kind, workload)):
        outside = raw.string_map(raw.mapping(level.get("metadata")).get("annotations"))
        if names.OPT_IN in outside and names.OPT_IN not in inside:
            yield (
                f"crikpy does nothing for an annotation {names.OPT_IN} of the {kind} itself;"
                " it belongs to the metadata of the pod template"
            )
            return


def job_warnings(kind: str, workload: Json) -> Iterator[str]:
    """Yield what to say of a Job that counts an interruption as a failure of its own."""
    if kind not in ("Job", "CronJob"):
        return
    spec = raw.mapping(_innermost(kind, workload).get("spec"))
    rules = list(raw.items(raw.mapping(spec.get("podFailurePolicy")).get("rules")))
    ignoring = next((index for index, rule in enumerate(rules) if _ignores_disruption(rule)), None)
    for index, rule in enumerate(rules[:ignoring]):
        if _takes_saved(rule):
            yield (
                f"rule {index + 1} of this Job's podFailurePolicy takes the exit status of a saved job,"
                f" {names.EXIT_CHECKPOINTED}, for a failure; put a rule that ignores DisruptionTarget before it"
            )
            return
    if ignoring is not None:
        return
    limit = raw.number(spec.get("backoffLimit"), _DEFAULT_BACKOFF)
    yield f"this Job counts each interruption as a failure (backoffLimit: {limit}), also when crikpy saves its pod"
    policy = raw.text(raw.mapping(template_of(kind, workload).get("spec")).get("restartPolicy"))
    also = "" if policy == "Never" else ", which needs restartPolicy: Never"
    place = "spec" if kind == "Job" else "spec.jobTemplate.spec"
    yield f"so that it does not, add to its {place}: podFailurePolicy: {_RULE}{also}"


def _innermost(kind: str, workload: Json) -> Json:
    """Return the object whose `spec.template` is the pod's: of a CronJob that is its job template."""
    return raw.mapping(raw.mapping(workload.get("spec")).get("jobTemplate")) if kind == "CronJob" else workload


def _ignores_disruption(rule: Json) -> bool:
    return rule.get("action") == "Ignore" and any(
        condition.get("type") == names.DISRUPTION_TARGET and condition.get("status", "True") == "True"
        for condition in raw.items(rule.get("onPodConditions"))
    )


def _takes_saved(rule: Json) -> bool:
    """Say whether a rule decides about the status of a saved job, other than to ignore it."""
    codes = raw.mapping(rule.get("onExitCodes"))
    values = codes.get("values")
    listed = isinstance(values, list) and names.EXIT_CHECKPOINTED in values
    matches = listed if codes.get("operator") == "In" else codes.get("operator") == "NotIn" and not listed
    return rule.get("action") != "Ignore" and bool(matches)
