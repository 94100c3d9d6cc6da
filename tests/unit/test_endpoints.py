"""Endpoints that may be connected to: public ones, and registered private ones."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import ArchiveUnavailable, EndpointRefused
from workers.s3.endpoints import check_address, check_endpoint, endpoint_parts

PUBLIC = "93.184.215.14"


def resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Resolve every name to these addresses."""

    def getaddrinfo(_host: str, port: int, **_kinds: int) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0",
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "224.0.0.1",
        "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:127.0.0.1]",
        "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[ff02::1]",
        "[64:ff9b:1::a9fe:a9fe]", "[::169.254.169.254]", "[::ffff:0:7f00:1]", "[fec0::1]",
        "[feff::1]",
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_private_addresses_are_refused_by_name(scheme: str, host: str) -> None:
    with pytest.raises(EndpointRefused, match="--allow-private") as caught:
        check_endpoint(f"{scheme}://{host}:9000", allow_private=False)
    assert host.strip("[]") in caught.value.message
    check_endpoint(f"{scheme}://{host}:9000", allow_private=True)


def test_a_name_is_refused_if_one_of_its_addresses_is_private(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolves_to(monkeypatch, PUBLIC, "192.168.0.7")
    with pytest.raises(EndpointRefused, match=r"192\.168\.0\.7"):
        check_endpoint("https://s3.example.org", allow_private=False)


def test_a_public_endpoint_needs_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    resolves_to(monkeypatch, PUBLIC)
    check_endpoint("https://s3.example.org", allow_private=False)
    with pytest.raises(EndpointRefused, match="plain HTTP"):
        check_endpoint("http://s3.example.org", allow_private=False)


def test_an_unresolvable_name_is_a_transient_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_arguments: object, **_kinds: object) -> None:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(ArchiveUnavailable):
        check_endpoint("https://s3.example.org", allow_private=False)


@pytest.mark.parametrize(
    "address", [PUBLIC, "2606:2800:21f:cb07:6820:80da:af6b:8b2c", f"::ffff:{PUBLIC}"]
)
def test_public_addresses_are_not_refused(address: str) -> None:
    check_address("host", address)


@pytest.mark.parametrize(
    "url",
    [
        "", "s3.example.org", "ftp://s3.example.org", "https://", "file:///etc/passwd",
        "https://user:password@host", "https://host/path", "https://host?x=1", "https://host#f",
        "https://host:port", "https://host:99999", "https://[::1",
    ],
)  # fmt: skip
def test_invalid_endpoints_are_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(EndpointRefused) as caught:
        endpoint_parts(url)
    assert "password" not in caught.value.message


@given(st.ip_addresses(v=4))
def test_ipv4_addresses_within_ipv6_are_checked(address: object) -> None:
    def refused(written: str) -> bool:
        try:
            check_address("host", written)
        except EndpointRefused:
            return True
        return False

    assert refused(f"::ffff:{address}") == refused(str(address))
