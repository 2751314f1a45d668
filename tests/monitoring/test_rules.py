"""Rules and dashboard: what promtool says of them, when each alert fires, and that all names exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from crikpy.metrics import Component, Metrics
from tests.monitoring.cases import CASES
from tests.monitoring.promtool import DASHBOARD, ROOT, RULES, promtool

_RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
_ALERTS = {rule["alert"]: rule for rule in _RULES if "alert" in rule}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]


def exported() -> set[str]:
    """Return the names of all series that our processes can serve."""
    names = set()
    for made in vars(Metrics()).values():
        for family in made.describe() if hasattr(made, "describe") else ():
            ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
            names |= {f"{family.name}{end}" for end in ends}
    return names


def test_promtool_accepts_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint-fatal", RULES)


@pytest.mark.parametrize("component", list(Component))
def test_promtool_finds_nothing_to_mend_in_the_names_and_helps_of_metrics(component: Component) -> None:
    assert promtool("check", "metrics", given=Metrics(component).render()) == ""


def test_a_process_serves_only_the_metrics_of_its_component() -> None:
    agent, controller = (Metrics(component).render() for component in Component)
    assert "crikpy_node_ready 0.0" in agent
    assert "crikpy_node_ready" not in controller
    assert "crikpy_leading 0.0" in controller
    assert "crikpy_leading" not in agent
    assert "crikpy_build_info{" in agent
    assert "crikpy_build_info{" in controller


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert CASES.keys() == _ALERTS.keys()


def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    tests: list[dict[str, Any]] = []
    for alert, (firing, quiet) in CASES.items():
        rule = _ALERTS[alert]
        for series, fires in ((firing, True), (quiet, False)):
            at = f"{(len_of(series) - 1)}m"
            known = {
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "interval": "1m",
            }
            count = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
            expected: dict[str, Any] = {"expr": f"({count}) > bool 0", "eval_time": at}
            expected["exp_samples"] = [{"labels": "{}", "value": int(fires)}]
            tests.append({"name": f"{alert} {rule['expr']} {fires}", **known, "promql_expr_test": [expected]})
    cases = tmp_path / "cases.yaml"
    cases.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    promtool("test", "rules", cases)


def len_of(series: dict[str, str]) -> int:
    return 120 if any("x120" in values for values in series.values()) else 60


def test_every_metric_that_rules_and_dashboard_name_exists() -> None:
    recorded = {rule["record"] for rule in _RULES if "record" in rule}
    for expression in [*(rule["expr"] for rule in _RULES), *queries()]:
        named = set(re.findall(r"\bcrikpy[a-z0-9_:]+", re.sub(r'"[^"]*"', "", expression)))
        assert named - exported() - recorded == set(), expression


def test_every_alert_tells_what_to_do_and_leads_to_its_place_in_the_docs() -> None:
    page = (ROOT / "docs/alerts.md").read_text()
    for alert, rule in _ALERTS.items():
        said = rule["annotations"]
        assert said["runbook_url"].endswith(f"docs/alerts.md#{alert.lower()}")
        assert f"\n## {alert}\n" in page
        assert said["remedy"] in page
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_pages_and_prometheus_rule_are_those_that_hack_monitoring_writes() -> None:
    done = subprocess.run([sys.executable, ROOT / "hack/monitoring", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = yaml.safe_load(RULES.with_name("prometheusrule.yaml").read_text())
    assert made["spec"] == yaml.safe_load(RULES.read_text())


def test_the_dashboard_has_panels_that_do_not_overlap_and_say_what_they_show() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    page = (ROOT / "docs/monitoring.md").read_text()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"] in page
        assert panel["type"] == "row" or panel["description"]
        assert panel["type"] == "row" or len({target["refId"] for target in panel["targets"]}) == len(
            panel["targets"]
        )
