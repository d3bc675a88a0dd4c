"""Astra's way in, a secure bundle and a TLS-only proxy, in front of a real node."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import httpx
import pytest

from tests.support.astra_endpoint import astra_endpoint
from tests.support.cassandra_cluster import CQL_PORT, DATA_CENTER, Cluster
from tests.support.cassandra_serving import serving, tamis
from tests.support.keyspaces import TOKEN

pytestmark = [
    pytest.mark.cassandra,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make certificates with"),
]


async def test_a_server_reads_and_writes_through_the_bundle(tmp_path: Path, cluster: Cluster, operator):
    operator.execute(
        "CREATE KEYSPACE astra WITH replication = "
        f"{{'class': 'NetworkTopologyStrategy', '{DATA_CENTER}': {len(cluster.nodes)}}}"
    )
    hosts = operator.cluster.metadata.all_hosts()
    nodes = {str(host.host_id): (host.address, CQL_PORT) for host in hosts}

    def ask(environ: dict[str, str]) -> None:
        done = tamis("migrate", "--store", "astra:", **environ)
        assert done.stdout.endswith("astra:astra has schema version 3\n"), done.stderr
        with serving(tmp_path, "astra:", **environ) as (_, address):
            assert httpx.post(f"{address}/predictions", json={"texts": ["one", "two"]}).status_code == 200
            log = httpx.get(f"{address}/recent_log").json()
            assert [row["input"] for row in log] == ["one", "two"]
        wrong = tamis("log", "--store", "astra:", **environ | {"ASTRA_DB_APPLICATION_TOKEN": "wrong"})
        assert wrong.returncode == 1
        assert "wrong user or password" in wrong.stderr

    async with astra_endpoint(tmp_path, nodes, DATA_CENTER) as endpoint:
        environ = {
            "ASTRA_DB_KEYSPACE": "astra",
            "ASTRA_DB_BUNDLE_PATH": str(endpoint.bundle),
            "ASTRA_DB_APPLICATION_TOKEN": TOKEN,
        }
        await asyncio.to_thread(ask, environ)
        assert endpoint.passed_on >= len(nodes)
