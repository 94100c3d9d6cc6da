"""Which addresses we connect to: what a registered endpoint's name stands for, and no others.

An endpoint is registered by whoever may run the commands, but what its name resolves to is decided
by whoever holds the name. So a name that stands for a private address (the machine itself, the
network that it stands in, a cloud's metadata service) is refused unless it was registered for that,
when it is registered and again when it is used. Such an endpoint must speak HTTPS, so that its
certificate, not its address, says who answers: a name that changes its address between our look
and the connection gets no further than a failed handshake.
"""

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from workers.errors import ArchiveUnavailable, EndpointRefused

# Not public, though Python's is_global says so of some: those with an IPv4 address inside, maybe a
# private one (RFC 6052, RFC 8215, RFC 3056, RFC 4380, RFC 4291 section 2.5.5.1, RFC 2765), and the
# private ones of old (fec0::/10, RFC 3879).
_REFUSED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "::ffff:0:0:0/96",
        "fec0::/10",
    )
)  # fmt: skip


def endpoint_parts(url: str) -> SplitResult:
    """The parts of an endpoint's URL.

    Raises:
        EndpointRefused: it is not of the form `https://host` or `https://host:port`.
    """
    try:
        parts = urlsplit(url)
        port_is_readable = parts.port is None or parts.port > 0
    except ValueError:
        raise EndpointRefused(f"the endpoint {url!r} is no URL") from None
    rest = (parts.path.strip("/"), parts.query, parts.fragment, parts.username, parts.password)
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_readable:
        raise EndpointRefused(f"the endpoint {url!r} should look like https://host:port")
    if any(rest):
        raise EndpointRefused(
            f"the endpoint {parts.scheme}://{parts.hostname} has more to it than a host and a port"
        )
    return parts


def check_endpoint(url: str, *, allow_private: bool) -> None:
    """Refuse an endpoint whose name stands, now, for an address that we must not connect to.

    Raises:
        EndpointRefused: private, loopback, link-local or otherwise not public, or plain HTTP.
        ArchiveUnavailable: its name cannot be resolved.
    """
    parts = endpoint_parts(url)
    if allow_private:
        return
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ArchiveUnavailable(f"the endpoint {host} cannot be resolved: {error}") from error
    for *_kind, address in found:
        check_address(host, str(address[0]))
    if parts.scheme != "https":
        raise EndpointRefused(
            f"the endpoint {url} speaks plain HTTP, so that nothing proves who answers:"
            " use https://, or register it with --allow-private if it is in your own network"
        )


def check_address(host: str, address: str) -> None:
    """Raise EndpointRefused unless an IP address is public."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    refused = any(ip in network for network in _REFUSED if network.version == ip.version)
    if not ip.is_global or ip.is_multicast or refused:
        raise EndpointRefused(
            f"the endpoint {host} has the address {address}, which is not public: register it"
            " with --allow-private if it is meant"
        )
