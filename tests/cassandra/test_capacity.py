"""The figures of docs/scale.md about Cassandra can be measured again: its benchmarks run on real nodes."""

from __future__ import annotations

import pytest

from benchmarks import cassandra_nodes, cassandra_store
from tests.support.cassandra_cluster import Cluster

pytestmark = pytest.mark.cassandra


async def test_capacity_plan_costs_each_operation(cluster: Cluster):
    cluster.restore()
    found = await cassandra_nodes.measure(cluster, 64, rounds=1, warm=1)
    assert list(found) == [1, 2, 3]
    plan = cassandra_nodes.Plan.of({(3, copies): costs for copies, costs in found.items()})
    assert all(0 < cost < 1 for costs in found.values() for cost in costs.values())
    assert all(plan.cost(name, 1) == cost for name, cost in found[1].items())


@pytest.mark.usefixtures("empty_keyspace")
async def test_store_benchmark_compares_with_the_driver(cluster: Cluster, capsys: pytest.CaptureFixture[str]):
    await cassandra_store.measure(cluster, "tamis", n_requests=200, rounds=1)
    assert capsys.readouterr().out.count("ratio") == 2
