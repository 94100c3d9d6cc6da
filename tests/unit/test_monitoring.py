"""Alert rules and metrics: Prometheus accepts them; alerts fire when due and state a remedy."""

import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from sqlalchemy.exc import OperationalError

from db.failure_filter import parse
from db.monitoring import Sample
from geotag.documents import help_texts
from geotag.machine.ledger_metrics import HELP, KEPT_SECONDS, LedgerCollector
from workers.telemetry import metrics

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RULES = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
TESTS = yaml.safe_load((MONITORING / "alerts.test.yml").read_text("utf-8"))["tests"]
SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not here (Debian: apt-get install prometheus)")
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
        ["check", "config", "prometheus.yml"],
    ],
)
def test_promtool_accepts(promtool: str, arguments: list[str]) -> None:
    done = subprocess.run(
        [promtool, *arguments], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test_with_and_without_it_firing() -> None:
    cases = [case for test in TESTS for case in test["alert_rule_test"]]
    alerts = {rule["alert"] for rule in RULES}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_states_a_remedy(rule: dict[str, Any]) -> None:
    assert set(rule["annotations"]) == {"summary", "next"}
    line = rule["annotations"]["next"]
    about = dict(help_texts())[" ".join(line.split()[:2])]
    assert [option for option in re.findall(r"--[a-z-]+", line) if option not in about] == []
    for asked in re.findall(r'--where "([^"]*)"', line):
        parse(asked.replace("{{ $labels.code }}", "x"))


def metric_names() -> set[str]:
    ours = {family.name for family in REGISTRY.collect() if family.name.startswith("geotag_")}
    return ours | set(HELP) | {"geotag_ledger_up"}


def test_metrics_in_alerts_exist() -> None:
    assert metrics.OBJECTS  # importing it registers its metrics
    for rule in RULES:
        used = {SUFFIX.sub("", name) for name in re.findall(r"\bgeotag_\w+", rule["expr"])}
        assert used
        assert used <= {SUFFIX.sub("", name) for name in metric_names()}


def test_every_metric_is_explained() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    for name in metric_names():
        assert re.search(rf"`{name}(_total)?[`{{]", page), name
    for rule in RULES:
        assert f"`{rule['alert']}`" in page


@pytest.fixture
def ledger() -> SimpleNamespace:
    """A ledger with settable answers, and a clock."""
    made = SimpleNamespace(samples=[], asked=0, now=100.0, away=False)

    def ask() -> list[Sample]:
        made.asked += 1
        if made.away:
            raise OperationalError("select", None, Exception("gone"))
        return list(made.samples)

    registry = CollectorRegistry()
    registry.register(LedgerCollector(ask, lambda: made.now))
    made.text = lambda: generate_latest(registry).decode()
    made.asked = 0  # a registry collects once for the names
    made.now += KEPT_SECONDS
    return made


def test_samples_become_series(ledger: SimpleNamespace) -> None:
    labels = {"queue": "backfill", "archive": 'a"b\n', "at": "broker"}
    ledger.samples = [
        Sample("geotag_unfinished_chunks", labels, 3.0),
        Sample("geotag_failing_plans", {}, 0.0),
    ]
    said = ledger.text()
    assert 'geotag_unfinished_chunks{archive="a\\"b\\n",at="broker",queue="backfill"} 3.0' in said
    assert "\ngeotag_failing_plans 0.0" in said
    assert "\ngeotag_ledger_up 1.0" in said


def test_the_ledger_is_queried_at_intervals(ledger: SimpleNamespace) -> None:
    for _ in range(3):
        ledger.text()
    assert ledger.asked == 1
    ledger.now += KEPT_SECONDS
    ledger.text()
    assert ledger.asked == 2


def test_unavailable_ledger_is_reported_and_queried_again(ledger: SimpleNamespace) -> None:
    ledger.samples = [Sample("geotag_failing_plans", {}, 0.0)]
    ledger.away = True
    said = ledger.text()
    assert "\ngeotag_ledger_up 0.0" in said
    assert "\ngeotag_failing_plans 0.0" not in said
    ledger.away = False
    ledger.now += KEPT_SECONDS
    assert "\ngeotag_ledger_up 1.0" in ledger.text()
