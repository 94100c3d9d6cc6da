"""Options of `geotag failures` and `geotag retry` as filters, and the printed output."""

import csv
import io
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.failure_filter import Comparison, Joined
from db.failures import Retry
from geotag.failures import failed_objects
from geotag.failures.advice import ADVICE
from geotag.failures.failed_objects import asked_for, try_again
from geotag.output import no_formula, write_csv
from tests.unit.test_errors import LEAVES
from workers.broker.app import BrokerUnavailable
from workers.errors import PermanentError, TransientError, UsageError


def test_every_code_that_is_recorded_has_advice() -> None:
    recorded = {cls.code for cls in LEAVES if issubclass(cls, (PermanentError, TransientError))}
    assert recorded <= set(ADVICE)


def test_options_are_combined_with_and() -> None:
    asked = asked_for(where="code = 'x' or run = 1", archive="a", since=date(2026, 11, 1))
    assert isinstance(asked, Joined)
    assert str(asked) == "(code = 'x' or run = 1) and archive = 'a' and day >= 2026-11-01"
    assert asked_for(run=7) == Comparison("run", "=", (7,))
    assert str(asked_for(url="s3://b/it's?")) == "bucket = 'b' and key = 'it''s?'"
    assert asked_for() is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"where": "code = x"}, r"(?s)--where: expected a text.*\n  code = x\n         \^$"),
        ({"url": "photo.jpg"}, "not an S3 URL"),
        ({"url": "s3://bucket"}, "has no key"),
    ],
)
def test_invalid_filters_are_wrong_usage(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked_for(**options)


@pytest.mark.parametrize("text", ["=2+5", "+1", "-1", "@sum", "\tx", "\rx"])
def test_formulas_are_escaped_in_csv(text: str) -> None:
    out = io.StringIO()
    write_csv([{"key": text, "number": -1.5}], ["key", "number"], out)
    (row,) = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    assert row == {"key": f"'{text}", "number": "-1.5"}


@given(st.text())
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert no_formula(f"x{text}") == f"x{text}"


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in that reports what a retry would do, and records real retries."""
    made = SimpleNamespace(found=Retry(None, {"corrupt": 2}, 1), retried=0, broker_away=False)

    def retry(*_args: object, dry_run: bool, **_options: object) -> Retry:
        made.retried += not dry_run
        return made.found if dry_run else Retry(7, made.found.codes, made.found.busy)

    def top_up() -> None:
        if made.broker_away:
            raise BrokerUnavailable("the broker is away")

    made.context = SimpleNamespace(
        engine=None,
        settings=SimpleNamespace(worker=SimpleNamespace(chunk_size=8)),
        publisher=lambda: SimpleNamespace(top_up=top_up),
    )
    monkeypatch.setattr(failed_objects, "retry", retry)
    return made


ASKED = Comparison("code", "=", ("corrupt",))


def test_retry_needs_a_filter(ledger: Any) -> None:
    with pytest.raises(UsageError, match="--where FILTER, --run N or --key"):
        try_again(ledger.context, None, dry_run=False, yes=True)
    assert ledger.retried == 0


def test_dry_run_shows_counts_and_advice(ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    try_again(ledger.context, ASKED, dry_run=True, yes=True)
    said = capsys.readouterr().out
    assert ledger.retried == 0
    assert "2 corrupt: " in said
    assert "1 not retried" in said


@pytest.mark.parametrize(("answer", "retried"), [(True, 1), (False, 0)])
def test_retry_on_a_terminal_asks_for_confirmation(
    ledger: Any, monkeypatch: pytest.MonkeyPatch, answer: bool, retried: int
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.confirm", lambda *_args, **_options: answer)
    try_again(ledger.context, ASKED, dry_run=False, yes=False)
    assert ledger.retried == retried


def test_retry_in_a_script_needs_yes(ledger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UsageError, match="--yes"):
        try_again(ledger.context, ASKED, dry_run=False, yes=False)
    assert ledger.retried == 0


def test_unavailable_broker_does_not_lose_the_run(
    ledger: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.broker_away = True
    try_again(ledger.context, ASKED, dry_run=False, yes=True)
    said = capsys.readouterr()
    assert "run 7: retrying 2 objects" in said.out
    assert "starts when the broker is available" in said.err


def test_filter_without_matches_is_no_error(
    ledger: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.found = Retry(None, {}, 0)
    try_again(ledger.context, ASKED, dry_run=False, yes=True)
    assert "nothing to retry" in capsys.readouterr().out
    assert ledger.retried == 0
