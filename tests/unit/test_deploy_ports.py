import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.errors import PortTaken, StackError
from deploy.local import ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((ports.LOOPBACK, 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_in_use_is_not_free(taken: int) -> None:
    assert not ports.is_free(taken)


def test_choose_avoids_taken_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "RANGE", range(20_000, 20_003))
    monkeypatch.setattr(ports, "is_free", lambda port: port != 20_001)

    assert ports.choose(taken={20_000}) == 20_002
    with pytest.raises(StackError, match="no port between 20000 and 20002"):
        ports.choose(taken={20_000, 20_002})


def test_chosen_ports_are_outside_the_ephemeral_range() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert max(ports.RANGE) < lowest


def test_the_process_on_a_taken_port_is_named(taken: int) -> None:
    with pytest.raises(PortTaken) as raised:
        ports.require_free("broker", [taken], Path("/data/ports.json"))

    assert f"port {taken} of broker" in raised.value.message
    assert f"(process {os.getpid()})" in raised.value.message
    assert "/data/ports.json" in raised.value.advice
