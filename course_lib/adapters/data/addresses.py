"""Which addresses of the network a tool may reach: web addresses, names and IP addresses, checked.

Main path: Reach(origins).check(url) -> may it be asked; reach.vet(name, port) -> checked IPs.
The tables below follow the IANA registries of special-purpose addresses, not ipaddress.is_global, whose
answers differ between releases of Python (and which counts 6to4 and NAT64 as global: both hide an IPv4).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from course_lib.adapters.tools.limits import ToolRefused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the IP addresses of a name, as text."""

_PORTS = {"http": 80, "https": 443}
_LONGEST_URL_CHARS = 2048
_URL = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<target>/[^\s\\#@]*|\?[^\s\\#@]*)?",
    re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DOTTED = re.compile(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}")

_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
"""All that is given out; loopback, ULA, link-local, multicast, mapped and NAT64 addresses lie outside it."""
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        "168.63.129.16/32",  # a cloud's host services, on an address that looks public
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),  # Teredo, documentation, 6to4
    )
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a web address: what is allowed or not."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def origin_of(url: str) -> Origin:
    """Return the origin of a web address in plain spelling.

    Raises:
        ToolRefused: anything but http(s)://host[:port][/path][?query] in printable ASCII: user names,
            fragments, backslashes, zone ids, IPs in decimal, octal or hex, trailing dots, encoded hosts.

    >>> str(origin_of("HTTPS://API.example.com:443/v1?x=1"))
    'https://api.example.com'
    """
    match = _URL.fullmatch(url) if len(url) <= _LONGEST_URL_CHARS and url.isascii() else None
    if match is None or not url.isprintable():
        raise ToolRefused("the address is not spelled plainly; write http(s)://host/path, in ASCII")
    scheme = match["scheme"].lower()
    if scheme not in _PORTS:
        raise ToolRefused(f"the scheme {scheme!r} is not allowed; use https or http")
    port = int(match["port"] or _PORTS[scheme])
    if port > 65535:
        raise ToolRefused("the port is not a correct one")
    return Origin(scheme, _plain_host(match["host"].lower()), port)


def _plain_host(host: str) -> str:
    if host.startswith("["):
        try:
            return ipaddress.IPv6Address(host[1:-1]).compressed
        except ValueError:
            raise ToolRefused("the host is not a correct IPv6 address") from None
    last = host.rpartition(".")[2]
    if last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last):  # clients read such a host as an IPv4 address
        if not _DOTTED.fullmatch(host) or any(int(part) > 255 for part in host.split(".")):
            raise ToolRefused("the host is a number; write an IPv4 address as four decimal numbers")
        return host
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise ToolRefused("the host is not a correct name")
    return host


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the public internet, and hides no other one.

    >>> [is_public(ipaddress.ip_address(a)) for a in ("9.9.9.9", "10.0.0.1", "::ffff:9.9.9.9")]
    [True, False, False]
    """
    if isinstance(address, ipaddress.IPv6Address) and (address not in _PUBLIC_V6 or address.scope_id):
        return False
    return not any(address in network for network in _SPECIAL if network.version == address.version)


async def resolve(name: str, port: int) -> list[str]:
    """Ask the system's resolver, off the event loop."""
    rows = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


class Reach:
    """What may be reached: a few origins by name, and public addresses, but for exactly those opened here.

    Args:
        origins: web addresses whose scheme, host and port may be asked.
        allow_private: web addresses by IP, as "http://127.0.0.1:8080": this address and port may be
            connected to although it is not public, whatever name led to it.
        resolver: gives the addresses of a name.
    """

    def __init__(
        self, origins: Collection[str], *, allow_private: Collection[str] = (), resolver: Resolver = resolve
    ) -> None:
        self.origins = frozenset(origin_of(url) for url in origins)
        self._opened = frozenset(_address_and_port(url) for url in allow_private)
        self._resolve = resolver

    def check(self, url: str) -> Origin:
        """Return the origin of an address, or raise ToolRefused: its spelling or origin is not allowed."""
        origin = origin_of(url)
        if origin not in self.origins:
            known = ", ".join(sorted(str(one) for one in self.origins))
            raise ToolRefused(f"only {known} may be contacted, not another scheme, host or port")
        return origin

    async def vet(self, host: str, port: int) -> str:
        """Return the IP address to connect to, the first of a host's addresses, all of which are checked.

        Raises:
            ToolRefused: any one of the addresses is not public and not opened.
            OSError: the name cannot be resolved.
        """
        try:
            addresses = [str(ipaddress.ip_address(host))]
        except ValueError:
            addresses = list(await self._resolve(host, port))
        if not addresses:
            raise OSError(f"no address found for {host}")
        for text in addresses:  # one bad answer among good ones is an attack, not an accident: refuse all
            if not self._may_connect(text, port):
                raise ToolRefused(f"{host} leads to an address that is not public; it was not contacted")
        return addresses[0]

    def _may_connect(self, text: str, port: int) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return is_public(address) or (address, port) in self._opened


def _address_and_port(url: str) -> tuple[Address, int]:
    origin = origin_of(url)
    try:
        return ipaddress.ip_address(origin.host), origin.port
    except ValueError:
        raise ToolRefused(f"{origin.host!r} is a name; open an address, as http://127.0.0.1:8080") from None
