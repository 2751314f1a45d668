"""What is said of Jobs and their like when they are applied."""

from __future__ import annotations

from typing import Any

import pytest

from crikpy import names
from crikpy.controller.templates import job_warnings, misplaced_warnings, pod_of, template_of
from tests.controller.admitting import Json, container

HINT = "podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]}"
IGNORE = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
SPELT_OUT = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
TEMPLATE: Json = {
    "metadata": {"annotations": {names.OPT_IN: "true"}},
    "spec": {"containers": [container()], "restartPolicy": "Never"},
}


def job_of(*rules: Json, template: Json = TEMPLATE, **spec: Any) -> Json:
    policy = {"podFailurePolicy": {"rules": list(rules)}} if rules else {}
    return {"metadata": {"name": "train"}, "spec": {"template": template} | policy | spec}


def cron_job_of(job: Json) -> Json:
    return {"metadata": {"name": "nightly"}, "spec": {"schedule": "@daily", "jobTemplate": job}}


def test_the_template_is_found_in_every_kind() -> None:
    job = job_of()
    assert template_of("Job", job) == template_of("Deployment", job) == TEMPLATE
    assert template_of("CronJob", cron_job_of(job)) == TEMPLATE
    assert template_of("Job", {"spec": None}) == template_of("CronJob", {}) == {}


def test_a_pod_of_the_template_has_an_owner() -> None:
    pod = pod_of("Job", job_of(), "team")
    assert pod["metadata"]["namespace"] == "team"
    assert pod["metadata"]["ownerReferences"][0]["controller"] is True
    assert pod["spec"] == TEMPLATE["spec"]


def test_a_job_that_counts_interruptions_is_told_the_very_words() -> None:
    first, second = job_warnings("Job", job_of())
    assert "backoffLimit: 6" in first
    assert second.endswith(f"add to its spec: {HINT}")
    assert len(first) <= 250
    assert len(second) <= 250


def test_a_cron_job_is_told_where() -> None:
    first, second = job_warnings("CronJob", cron_job_of(job_of(backoffLimit=0)))
    assert "backoffLimit: 0" in first
    assert "add to its spec.jobTemplate.spec:" in second


def test_a_restart_policy_that_rules_it_out_is_named() -> None:
    template = {"spec": {"restartPolicy": "OnFailure"}}
    assert "needs restartPolicy: Never" in list(job_warnings("Job", job_of(template=template)))[1]


@pytest.mark.parametrize(
    "rules",
    [
        [IGNORE],
        [SPELT_OUT],
        [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}, IGNORE],
        [{"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [75, 1]}}, IGNORE],
        [IGNORE, {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [75]}}],
        [{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}}, IGNORE],
    ],
)
def test_a_job_that_ignores_interruptions_is_told_nothing(rules: list[Json]) -> None:
    assert list(job_warnings("Job", job_of(*rules))) == []


@pytest.mark.parametrize(
    "rule",
    [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 75]}},
        {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [1]}},
        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [75]}},
    ],
)
@pytest.mark.parametrize("rest", [[], [IGNORE]])
def test_a_rule_that_takes_a_saved_job_for_failed_is_named(rule: Json, rest: list[Json]) -> None:
    (warning,) = job_warnings("Job", job_of({"action": "Ignore", "onPodConditions": []}, rule, *rest))
    assert "rule 2" in warning
    assert "75" in warning


@pytest.mark.parametrize(
    "rule",
    [
        {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "Ignore", "onPodConditions": [{"type": "ConfigIssue"}]},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "False"}]},
    ],
)
def test_a_rule_that_only_looks_alike_does_not_count(rule: Json) -> None:
    assert len(list(job_warnings("Job", job_of(rule)))) == 2


def test_other_kinds_have_no_such_policy() -> None:
    assert list(job_warnings("Deployment", job_of())) == []


BARE: Json = {"spec": {"containers": [container()]}}
MARKED = {"annotations": {names.OPT_IN: "true"}}


@pytest.mark.parametrize(
    ("kind", "workload", "told"),
    [
        ("Deployment", {"metadata": MARKED, "spec": {"template": BARE}}, True),
        ("Deployment", {"metadata": MARKED, "spec": {"template": TEMPLATE}}, False),
        ("Deployment", {"metadata": {}, "spec": {"template": TEMPLATE}}, False),
        ("CronJob", {"metadata": MARKED, "spec": {"jobTemplate": {"spec": {"template": BARE}}}}, True),
        ("CronJob", {"spec": {"jobTemplate": {"metadata": MARKED, "spec": {"template": BARE}}}}, True),
    ],
)
def test_an_annotation_in_the_wrong_place_is_spoken_of(kind: str, workload: Json, told: bool) -> None:
    assert [kind in warning for warning in misplaced_warnings(kind, workload)] == ([True] if told else [])
