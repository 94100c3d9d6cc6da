"""Processes that train together."""

from datetime import timedelta
from typing import Any

import pytest
import torch

from triton_models.training import distributed


def test_processes_wait_for_each_other_longer_than_class_maps_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By default NCCL gives up after 10 minutes."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda *_, **values: asked.update(values)
    )
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.join("cpu") == distributed.World(1, 2, torch.device("cpu"))
    assert asked["timeout"] >= timedelta(days=1)
