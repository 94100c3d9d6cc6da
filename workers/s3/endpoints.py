"""Check that an S3 endpoint is at an address that may be connected to.

The owner of an endpoint's DNS name decides what it resolves to. A name that resolves to a private
address (this machine, its network, a cloud's metadata service) is refused unless the archive was
registered with --allow-private. The check runs at registration and again at use.

A checked endpoint must use HTTPS. If its name changes its address between the check and the
connection, the TLS handshake fails, because the certificate authenticates the server.
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
    """Return the parts of an endpoint's URL.

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
    """Refuse an endpoint whose name resolves to an address that is not to be connected to.

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
