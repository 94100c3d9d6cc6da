"""SIGTERM in a pool process: a deadline instead of a death, while there is a chunk in hand."""

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
    """Signals that reach the process itself."""
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


def test_next_chunk_has_no_deadline_and_an_idle_process_hears_the_signal(heard: list[int]) -> None:
    deadline = Deadline()
    with deadline.heeding_sigterm(0):
        os.kill(os.getpid(), signal.SIGTERM)
    assert not deadline.passed()
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_sleep_ends_with_the_deadline() -> None:
    """Else this test would take an hour."""
    deadline = Deadline()
    with deadline.heeding_sigterm(0):
        os.kill(os.getpid(), signal.SIGTERM)
        deadline.sleep(LONG)


def test_worker_tells_its_pool() -> None:
    pass_sigterm_on()
    child = billiard.Process(target=signal.pause)
    child.start()
    worker_shutting_down.send(sender="test")
    child.join()
    assert child.exitcode == -signal.SIGTERM


def test_nothing_of_it_is_needed_to_show_the_help() -> None:
    """The signals are connected when a worker starts, not when a command is imported."""
    code = "import sys, geotag.cli; sys.exit('workers.chunks.shutdown' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
