"""SIGTERM in a pool process sets a deadline while a chunk is in work."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import FrameType

import billiard
import pytest
from celery.signals import worker_shutting_down

from workers.chunks.shutdown import Deadline, pass_sigterm_on

LONG = 3600.0


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """Signals that reach the handlers of the process."""
    signals: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        signals.append(number)

    before = signal.signal(signal.SIGTERM, note)
    yield signals
    signal.signal(signal.SIGTERM, before)


def test_without_a_signal_there_is_no_deadline() -> None:
    deadline = Deadline()
    with deadline.heeding_sigterm(0):
        assert not deadline.passed()


def test_sigterm_sets_the_deadline_and_nothing_else(heard: list[int]) -> None:
    deadline = Deadline()
    with deadline.heeding_sigterm(LONG):
        os.kill(os.getpid(), signal.SIGTERM)
        assert not deadline.passed()
    with deadline.heeding_sigterm(0):
        os.kill(os.getpid(), signal.SIGTERM)
        assert deadline.passed()
    assert heard == []


def test_second_sigterm_grants_no_more_time() -> None:
    deadline = Deadline()
    with deadline.heeding_sigterm(0):
        os.kill(os.getpid(), signal.SIGTERM)
        with deadline.heeding_sigterm(LONG):
            os.kill(os.getpid(), signal.SIGTERM)
            assert deadline.passed()


def test_next_chunk_has_no_deadline_and_an_idle_process_gets_the_signal(heard: list[int]) -> None:
    deadline = Deadline()
    with deadline.heeding_sigterm(0):
        os.kill(os.getpid(), signal.SIGTERM)
    assert not deadline.passed()
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_sleep_ends_with_the_deadline() -> None:
    """Otherwise this test would take an hour."""
    deadline = Deadline()
    with deadline.heeding_sigterm(0):
        os.kill(os.getpid(), signal.SIGTERM)
        deadline.sleep(LONG)


def test_worker_forwards_sigterm_to_its_pool() -> None:
    pass_sigterm_on()
    child = billiard.Process(target=signal.pause)
    child.start()
    worker_shutting_down.send(sender="test")
    child.join()
    assert child.exitcode == -signal.SIGTERM


def test_help_connects_no_signals() -> None:
    """Signals are connected when a worker starts, not when the command is imported."""
    code = "import sys, geotag.cli; sys.exit('workers.chunks.shutdown' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
