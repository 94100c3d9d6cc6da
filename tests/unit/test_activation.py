"""Activation of releases: decisions under the lock, and failures that are only reported."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from deploy import model_control
from deploy.errors import ModelNotLoaded
from geotag.releases import lifecycle


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the calls to a ledger in which `new` is the active release and `old` the previous."""
    seen: list[str] = []

    @contextmanager
    def activation(_engine: object) -> Iterator[None]:
        seen.append("lock")
        yield
        seen.append("unlock")

    def before(_engine: object) -> str:
        seen.append("read before")
        return "old"

    releases = [SimpleNamespace(name=name, digest=name) for name in ("old", "new")]
    monkeypatch.setattr(lifecycle, "activation", activation)
    monkeypatch.setattr(lifecycle, "release_before", before)
    monkeypatch.setattr(lifecycle, "directories", lambda _settings: {})
    monkeypatch.setattr(lifecycle, "registered_releases", lambda _engine: releases)
    monkeypatch.setattr(lifecycle, "active_release", lambda _engine: ("new", "new"))
    monkeypatch.setattr(
        lifecycle, "serve", lambda _now, name, _digest: seen.append(f"serve {name}")
    )
    monkeypatch.setattr(
        lifecycle, "activate_release", lambda _engine, name, by: seen.append(f"activate {name}")
    )
    monkeypatch.setattr(lifecycle, "needed", lambda _now: {"old": "", "new": ""})
    monkeypatch.setattr(lifecycle, "built", lambda _folder: ["new", "old", "older", "oldest"])
    monkeypatch.setattr(lifecycle, "remove", lambda name, _folder: seen.append(f"remove {name}"))
    monkeypatch.setattr(lifecycle, "repository", lambda _settings: None)
    return seen


def context() -> Any:
    settings = SimpleNamespace(
        stack=SimpleNamespace(triton_url=None), worker=SimpleNamespace(triton_url="127.0.0.1:1")
    )
    return SimpleNamespace(engine=None, settings=settings)


def test_a_rollback_chooses_its_target_under_the_lock(
    events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it could undo a concurrent activation, or roll back to the active release."""
    monkeypatch.setattr(model_control, "unload", lambda _url, _model: None)
    assert lifecycle.rollback(context()) == ("new", "old", "old")
    assert events[:4] == ["lock", "read before", "serve old", "activate old"]
    assert events[-1] == "unlock"
    assert events.count("lock") == 1  # the session takes the lock once


def test_an_activation_stands_although_triton_fails_to_unload_another(
    events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unload(_url: str, model: str) -> None:
        if model == "inspect_older":
            raise ModelNotLoaded("Triton does not unload inspect_older: Deadline Exceeded")

    monkeypatch.setattr(model_control, "unload", unload)
    said: list[str] = []
    assert lifecycle.activate(context(), "old", said.append) == ("new", "old")
    assert "activate old" in events
    assert [e for e in events if e.startswith("remove")] == [
        "remove oldest"
    ]  # older than this release: left to the next activation
    assert len(said) == 1
    assert "release older stays loaded until the next activation" in said[0]
    assert "Deadline Exceeded" in said[0]
