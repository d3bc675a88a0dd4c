"""Users, tables and URLs on the cluster for tests. Knows the driver and the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.io.libevreactor import LibevConnection
from cassandra.policies import DCAwareRoundRobinPolicy
from cassandra.protocol import ConfigurationException

from tamis.clock import SystemClock
from tamis.storage import ClusterOptions, StoreOptions, make_store
from tests.support import cassandra_cluster as machines

USER, PASSWORD = "tamis", "s3cret-of-the-tests"
TOKEN_USER, TOKEN = "token", "AstraCS:made-by-the-tests"
GOSSIP_SECONDS = 60
T = TypeVar("T")
_LOGS = ("calls", "hours", "callers", "feedback", "feedback_hours", "feedback_callers", "feedback_subjects")
TABLES = ("answers", *_LOGS)
PATIENT = StoreOptions(
    cluster=ClusterOptions(deadline_seconds=10, cache_deadline_seconds=5, connect_seconds=30)
)
"""For tests that are not about time: the nodes share two cores with everything else."""


@contextmanager
def admin(cluster: machines.Cluster, user: str = USER, password: str = PASSWORD) -> Iterator[Session]:
    profile = ExecutionProfile(DCAwareRoundRobinPolicy(machines.DATA_CENTER), request_timeout=60)
    connected = Cluster(
        [node.address for node in cluster.nodes if node.is_running],
        auth_provider=PlainTextAuthProvider(user, password),
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        protocol_version=5,
        connection_class=LibevConnection,
    )
    try:
        yield connected.connect()
    finally:
        connected.shutdown()


def add_users(cluster: machines.Cluster) -> None:
    """Make users who can log in whatever node is away: the built-in one asks for a quorum."""
    with ExitStack() as connection:
        session = _retried(  # a new node answers before it has made the built-in user
            lambda: connection.enter_context(admin(cluster, machines.ADMIN, machines.ADMIN)), NoHostAvailable
        )
        replication = (
            f"{{'class': 'NetworkTopologyStrategy', '{machines.DATA_CENTER}': {len(cluster.nodes)}}}"
        )
        _retried(  # a node that answers may not yet be known to all
            lambda: session.execute(f"ALTER KEYSPACE system_auth WITH replication = {replication}"),
            ConfigurationException,
        )
        for user, password in ((USER, PASSWORD), (TOKEN_USER, TOKEN)):
            role = f"\"{user}\" WITH LOGIN = true AND SUPERUSER = true AND PASSWORD = '{password}'"
            _retried(  # too few copies, until every node knows that the others are up
                lambda role=role: session.execute(f"CREATE ROLE IF NOT EXISTS {role}"),  # type: ignore[misc]
                NoHostAvailable,
            )


def _retried(call: Callable[[], T], error: type[Exception]) -> T:
    until = time.monotonic() + GOSSIP_SECONDS
    while True:
        try:
            return call()
        except error:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def url_of(cluster: machines.Cluster, keyspace: str, *, user: str = USER, password: str = PASSWORD) -> str:
    return f"cassandra://{user}:{password}@{cluster.hosts}/{keyspace}?local_dc={machines.DATA_CENTER}"


def migrate(url: str) -> None:
    asyncio.run(make_store(url, SystemClock(), PATIENT).migrate())


def truncate(session: Session, keyspace: str) -> None:
    for waiting in [session.execute_async(f"TRUNCATE {keyspace}.{table}") for table in TABLES]:
        waiting.result()
