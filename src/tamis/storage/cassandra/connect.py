"""Opens and closes sessions. Knows the driver's policies; knows no table. Blocks: for threads."""

from __future__ import annotations

import logging
import ssl
from typing import Any

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
from tamis.storage.base import ClusterOptions
from tamis.storage.cassandra.faults import fault_of, meaning
from tamis.storage.cassandra.target import Target

try:
    from cassandra.io.libevreactor import LibevConnection
except ImportError as missing:  # pragma: no cover - the wheels bring it along
    raise StoreError(
        "cassandra-driver was built without libev: install its wheel, or build it with libev's headers"
    ) from missing

# a node that stands still keeps its connections open: only a question that stays unanswered shows it
_HEARTBEAT_SECONDS = 5
# retries share threads with reconnections, which a node that stands still blocks for seconds
_THREADS = 8
_SECOND_HOST_AFTER = 0.25  # of the deadline: a node that stands still costs no request its answer

# the driver tells every attempt of its own; what matters is told by our errors
logging.getLogger("cassandra").setLevel(logging.CRITICAL)

Decision = tuple[Any, Any]


class OneRetry(RetryPolicy):  # type: ignore[misc]  # the driver has no types
    """At most one retry, on the next host, and none that would add to an overload.

    All our statements are idempotent.
    """

    def on_read_timeout(self, *told: Any, retry_num: int, **more: Any) -> Decision:
        """Ask the next host once."""
        return self._once(retry_num)

    def on_write_timeout(self, *told: Any, retry_num: int, **more: Any) -> Decision:
        """Ask the next host once."""
        return self._once(retry_num)

    def on_unavailable(self, *told: Any, retry_num: int, **more: Any) -> Decision:
        """Ask the next host once: it may see more replicas."""
        return self._once(retry_num)

    def on_request_error(self, query: Any, consistency: Any, error: Any, retry_num: int) -> Decision:
        """Ask the next host once, unless the cluster has too much to do."""
        return (self.RETHROW, None) if isinstance(error, OverloadedErrorMessage) else self._once(retry_num)

    def _once(self, retry_num: int) -> Decision:
        return (self.RETRY_NEXT_HOST if retry_num == 0 else self.RETHROW), None


def connect(target: Target, options: ClusterOptions) -> Session:
    """Return a session whose cluster is known to have the wanted data centre."""
    cluster = _cluster(target, options)
    try:
        session = cluster.connect()
        _check_data_centre(target, cluster)
    except (DriverException, NoHostAvailable, UnresolvableContactPoints, OSError) as failed:
        wrong_data_centre = _data_centre_problem(target, cluster)
        cluster.shutdown()
        message = f"{target.name}: {wrong_data_centre or _problem(failed, target)}"
        raise StoreError(message, fault=fault_of(failed)) from failed
    except StoreError:
        cluster.shutdown()
        raise
    return session


def _problem(failed: Exception, target: Target) -> str:
    return f"{meaning(failed)}; check hosts, port, user and TLS of the store URL"


def disconnect(session: Session) -> None:
    """Close a session and all that belongs to it."""
    session.cluster.shutdown()


def data_centres(session: Session) -> dict[str, int]:
    """Return the number of nodes of each data centre."""
    found: dict[str, int] = {}
    for host in session.cluster.metadata.all_hosts():
        found[host.datacenter] = found.get(host.datacenter, 0) + 1
    return found


def _cluster(target: Target, options: ClusterOptions) -> Cluster:
    seconds = options.deadline_seconds
    balancing = DCAwareRoundRobinPolicy(target.local_dc) if target.local_dc else DCAwareRoundRobinPolicy()
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(balancing),
        retry_policy=OneRetry(),
        request_timeout=10 * seconds,  # only so that nothing waits for ever: see bridge.py
        row_factory=tuple_factory,
        speculative_execution_policy=ConstantSpeculativeExecutionPolicy(seconds * _SECOND_HOST_AFTER, 1),
    )
    where: dict[str, Any] = {"contact_points": list(target.hosts), "port": target.port}
    if target.bundle is not None:
        where = {"cloud": {"secure_connect_bundle": str(target.bundle), "use_default_tempdir": True}}
    elif target.tls:
        where["ssl_context"] = _tls(target)
    try:
        return Cluster(
            **where,
            auth_provider=PlainTextAuthProvider(target.user, target.password) if target.user else None,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            protocol_version=target.protocol,
            connection_class=LibevConnection,
            connect_timeout=options.connect_seconds / 2,
            reconnection_policy=ExponentialReconnectionPolicy(0.5, 10.0, max_attempts=None),
            executor_threads=_THREADS,
            idle_heartbeat_interval=_HEARTBEAT_SECONDS,
            idle_heartbeat_timeout=_HEARTBEAT_SECONDS,
            monitor_reporting_enabled=False,
            application_name="tamis",
        )
    except UnresolvableContactPoints as failed:
        message = f"{target.name}: no host has an address; check their names"
        raise StoreError(message, fault="unavailable") from failed
    except (OSError, KeyError, ValueError) as failed:
        raise StoreError(
            f"{target.name}: the secure bundle {target.bundle} cannot be read ({meaning(failed)}); "
            "download it again from Astra's console"
        ) from failed
    except DriverException as failed:
        raise StoreError(
            f"{target.name}: {meaning(failed)} A database that hibernates is woken in Astra's console"
        ) from failed


def _tls(target: Target) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=target.tls_ca or None)
    except OSError as failed:
        raise StoreError(f"{target.name}: tls_ca cannot be read: {failed}") from failed


def _check_data_centre(target: Target, cluster: Cluster) -> None:
    if problem := _data_centre_problem(target, cluster):
        raise StoreError(f"{target.name}: {problem}")


def _data_centre_problem(target: Target, cluster: Cluster) -> str | None:
    known = sorted({host.datacenter for host in cluster.metadata.all_hosts() if host.datacenter})
    if target.local_dc and known and target.local_dc not in known:
        return f"the cluster has no data centre {target.local_dc!r} but {', '.join(known)}: correct local_dc"
    if not target.local_dc and target.bundle is None and len(known) > 1:
        return f"the cluster has several data centres: add local_dc= and one of {', '.join(known)}"
    return None
