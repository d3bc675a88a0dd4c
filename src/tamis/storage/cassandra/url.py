"""Store URLs of clusters. Knows neither the driver nor a table."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, unquote

from tamis.errors import StoreError
from tamis.storage.base import Astra

CQL_PORT = 9042
_EXAMPLE = "cassandra://user:password@host1,host2:9042/keyspace?local_dc=dc1"
_KEYSPACE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+")
_Value = TypeVar("_Value")
_OPTIONS = ("local_dc", "tls", "tls_ca", "protocol")


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """One keyspace of one cluster, and the credentials for it."""

    keyspace: str
    hosts: tuple[str, ...] = ()
    port: int = CQL_PORT
    local_dc: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    tls_ca: str = ""
    """File of the certificate authorities to trust instead of the system's."""
    protocol: int = 5
    bundle: Path | None = None
    """Astra's secure bundle; it knows hosts and certificates."""

    @property
    def name(self) -> str:
        """The store in messages: its URL without user and password."""
        if self.bundle is not None:
            return f"astra:{self.keyspace}"
        port = "" if self.port == CQL_PORT else f":{self.port}"
        return f"cassandra://{','.join(self.hosts)}{port}/{self.keyspace}"

    @property
    def url(self) -> str:
        """The value for `--store`, without user and password."""
        return "astra:" if self.bundle is not None else self.name

    @classmethod
    def of(cls, url: str, astra: Astra | None) -> ClusterUrl:
        """Parse a store URL; the settings describe `astra:`."""
        return cls.of_astra(astra) if url == "astra:" else cls.of_url(url)

    @classmethod
    def of_astra(cls, astra: Astra | None) -> ClusterUrl:
        """Return the database that the settings describe."""
        if astra is None:
            raise StoreError("astra: needs ClusterOptions(astra=Astra(...)): bundle, keyspace and token")
        return cls(
            _keyspace(astra.keyspace),
            user=astra.user,
            password=astra.password,
            protocol=4,
            bundle=astra.bundle,
        )

    @classmethod
    def of_url(cls, url: str) -> ClusterUrl:
        """Read `cassandra://user:password@host1,host2:port/keyspace?local_dc=…&tls=…`."""
        found = re.fullmatch(r"cassandra://(?:([^/]*)@)?([^/@]+)/([^/?]+)(?:\?(.*))?", url)
        if found is None:
            raise _invalid("is malformed")
        who, where, keyspace, query = found.groups(default="")
        user, _, password = who.partition(":")
        hosts, port = _hosts(where)
        options = dict(parse_qsl(query, keep_blank_values=True))
        if unknown := options.keys() - set(_OPTIONS):
            raise _invalid(f"has an unknown option {min(unknown)[:20]!r}; use {', '.join(sorted(_OPTIONS))}")
        return cls(
            _keyspace(unquote(keyspace)),
            hosts,
            port,
            local_dc=options.get("local_dc", ""),
            user=unquote(user),
            password=unquote(password),
            tls=_one_of("tls", options.get("tls", "false"), {"true": True, "false": False}),
            tls_ca=options.get("tls_ca", ""),
            protocol=_one_of("protocol", options.get("protocol", "5"), {"4": 4, "5": 5}),
        )


def _hosts(where: str) -> tuple[tuple[str, ...], int]:
    names, colon, port = where.rpartition(":")
    if not colon or port.endswith("]"):  # the colon of an IPv6 address
        names, port = where, str(CQL_PORT)
    hosts = tuple(names.split(","))
    if not all(_HOST.fullmatch(host) for host in hosts):
        raise _invalid("has an invalid host")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise _invalid("has an invalid port; use 1 to 65535")
    return tuple(host.strip("[]") for host in hosts), int(port)


def _keyspace(name: str) -> str:
    if not _KEYSPACE.fullmatch(name):
        raise StoreError("invalid keyspace name; use a letter, then letters, digits and _, at most 48")
    return name


def _one_of(name: str, given: str, values: dict[str, _Value]) -> _Value:
    if given not in values:
        raise _invalid(f"has an invalid option {name}; use {' or '.join(values)}")
    return values[given]


def _invalid(problem: str) -> StoreError:
    # the URL itself is not repeated: it may hold a password
    return StoreError(f"the cassandra: URL {problem}; expected {_EXAMPLE}")
