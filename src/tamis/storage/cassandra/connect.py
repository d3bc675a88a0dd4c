"""Store URLs of clusters, connections, the driver's policies. Blocks: call it in a thread.

Independent of tables.
"""

from __future__ import annotations

import logging
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

from cassandra import DriverException, UnresolvableContactPoints
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.policies import (
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    RetryPolicy,
    TokenAwarePolicy,
)
from cassandra.protocol import OverloadedErrorMessage
from cassandra.query import tuple_factory

from tamis.errors import StoreError
from tamis.storage.base import Astra, ClusterOptions
from tamis.storage.cassandra.async_session import describe, fault_of

CQL_PORT = 9042
_EXAMPLE = "cassandra://user:password@host1,host2:9042/keyspace?local_dc=dc1"
# Cassandra's own limits on names
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
    # Cassandra 4 and later; 4 is that of Cassandra 3 and Astra
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
            # the version that Astra speaks
            protocol=4,
            bundle=astra.bundle,
        )

    @classmethod
    def of_url(cls, url: str) -> ClusterUrl:
        """Read `cassandra://user:password@host1,host2:port/keyspace?local_dc=…&tls=…`."""
        found = re.fullmatch(r"cassandra://(?:([^/]*)@)?([^/@]+)/([^/?]+)(?:\?(.*))?", url)
        if found is None:
            raise _invalid("is malformed")
        credentials, host_list, keyspace, query = found.groups(default="")
        user, _, password = credentials.partition(":")
        hosts, port = _hosts(host_list)
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


def _hosts(host_list: str) -> tuple[tuple[str, ...], int]:
    names, colon, port = host_list.rpartition(":")
    if not colon or port.endswith("]"):  # the colon of an IPv6 address
        names, port = host_list, str(CQL_PORT)
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


try:
    from cassandra.io.libevreactor import LibevConnection
except ImportError as missing:  # pragma: no cover - the wheels bring it along
    raise StoreError(
        "cassandra-driver was built without libev: install its wheel, or build it with libev's headers"
    ) from missing

# a node that hangs keeps its connections open: only an unanswered heartbeat shows it
_HEARTBEAT_SECONDS = 5
# retries share threads with reconnections, which a node that hangs blocks for seconds
_THREADS = 8
_SECOND_HOST_AFTER = 0.25  # of the timeout: a node that hangs fails no request

# the driver logs each of its attempts; StoreError reports what matters
logging.getLogger("cassandra").setLevel(logging.CRITICAL)

RetryDecision = tuple[Any, Any]


class OneRetry(RetryPolicy):  # type: ignore[misc]  # the driver has no types
    """At most one retry, on the next host, and none when the cluster is overloaded.

    All statements are idempotent.
    """

    def on_read_timeout(self, *args: Any, retry_num: int, **kwargs: Any) -> RetryDecision:
        """Try the next host once."""
        return self._once(retry_num)

    on_write_timeout = on_read_timeout
    # the next host may see more replicas
    on_unavailable = on_read_timeout

    def on_request_error(self, query: Any, consistency: Any, error: Any, retry_num: int) -> RetryDecision:
        """Try the next host once, unless the cluster is overloaded."""
        return (self.RETHROW, None) if isinstance(error, OverloadedErrorMessage) else self._once(retry_num)

    def _once(self, retry_num: int) -> RetryDecision:
        return (self.RETRY_NEXT_HOST if retry_num == 0 else self.RETHROW), None


def connect(url: ClusterUrl, options: ClusterOptions) -> Session:
    """Return a session on a cluster that has the data centre of the URL."""
    cluster = _cluster(url, options)
    try:
        session = cluster.connect()
        if problem := _data_centre_problem(url, cluster):
            raise StoreError(f"{url.name}: {problem}")
    except (DriverException, NoHostAvailable, UnresolvableContactPoints, OSError) as failed:
        # of a wrong data centre the driver only reports that no host is available
        problem = _data_centre_problem(url, cluster)
        problem = problem or f"{describe(failed)}; check hosts, port, user and TLS of the store URL"
        cluster.shutdown()
        raise StoreError(f"{url.name}: {problem}", fault=fault_of(failed)) from failed
    except StoreError:
        cluster.shutdown()
        raise
    return session


def disconnect(session: Session) -> None:
    """Close a session and its cluster's connections."""
    session.cluster.shutdown()


def data_centres(session: Session) -> dict[str, int]:
    """Return the number of nodes of each data centre."""
    found: dict[str, int] = {}
    for host in session.cluster.metadata.all_hosts():
        found[host.datacenter] = found.get(host.datacenter, 0) + 1
    return found


def _cluster(url: ClusterUrl, options: ClusterOptions) -> Cluster:
    seconds = options.deadline_seconds
    balancing = DCAwareRoundRobinPolicy(url.local_dc) if url.local_dc else DCAwareRoundRobinPolicy()
    profile = ExecutionProfile(
        # a replica coordinates its own rows: one hop less
        load_balancing_policy=TokenAwarePolicy(balancing),
        retry_policy=OneRetry(),
        request_timeout=10 * seconds,  # a last resort: see async_session.py
        # rows are named by `LogTable`; named tuples would be made for every row
        row_factory=tuple_factory,
        speculative_execution_policy=ConstantSpeculativeExecutionPolicy(seconds * _SECOND_HOST_AFTER, 1),
    )
    where: dict[str, Any] = {"contact_points": list(url.hosts), "port": url.port}
    if url.bundle is not None:
        where = {"cloud": {"secure_connect_bundle": str(url.bundle), "use_default_tempdir": True}}
    elif url.tls:
        where["ssl_context"] = _tls(url)
    try:
        return Cluster(
            **where,
            auth_provider=PlainTextAuthProvider(url.user, url.password) if url.user else None,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            protocol_version=url.protocol,
            connection_class=LibevConnection,
            connect_timeout=options.connect_seconds / 2,
            # for ever: a cluster may be away for hours, and the spool keeps calls meanwhile
            reconnection_policy=ExponentialReconnectionPolicy(0.5, 10.0, max_attempts=None),
            executor_threads=_THREADS,
            idle_heartbeat_interval=_HEARTBEAT_SECONDS,
            idle_heartbeat_timeout=_HEARTBEAT_SECONDS,
            # or the driver reports about this client to DataStax Insights
            monitor_reporting_enabled=False,
            application_name="tamis",
        )
    except UnresolvableContactPoints as failed:
        message = f"{url.name}: cannot resolve any host; check their names"
        raise StoreError(message, fault="unavailable") from failed
    except (OSError, KeyError, ValueError) as failed:
        raise StoreError(
            f"{url.name}: the secure bundle {url.bundle} cannot be read ({describe(failed)}); "
            "download it again from Astra's console"
        ) from failed
    except DriverException as failed:
        raise StoreError(
            f"{url.name}: {describe(failed)} Resume a hibernated database in Astra's console"
        ) from failed


def _tls(url: ClusterUrl) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=url.tls_ca or None)
    except OSError as failed:
        raise StoreError(f"{url.name}: tls_ca cannot be read: {failed}") from failed


def _data_centre_problem(url: ClusterUrl, cluster: Cluster) -> str | None:
    known = sorted({host.datacenter for host in cluster.metadata.all_hosts() if host.datacenter})
    if url.local_dc and known and url.local_dc not in known:
        return f"data centre {url.local_dc!r} not found; set local_dc to {' or '.join(known)}"
    if not url.local_dc and url.bundle is None and len(known) > 1:
        return f"the cluster has several data centres; set local_dc to {' or '.join(known)}"
    return None
