from __future__ import annotations

import pytest

from tamis.errors import StoreError
from tamis.storage import ClusterOptions, StoreOptions
from tamis.storage.cassandra.connect import ClusterUrl
from tamis.storage.cassandra.migrations import all_statements
from tamis.storage.cassandra.tables import KeyspacePlan, quoted

HERE = ClusterUrl("spam", ("host",), local_dc="dc1")


def plan(replication: str = "", url: ClusterUrl = HERE, **known: object) -> KeyspacePlan:
    return KeyspacePlan.of(url, StoreOptions(cluster=ClusterOptions(replication=replication)), **known)


@pytest.mark.parametrize(
    ("asked", "nodes", "replication"),
    [("", 1, "dc1:1"), ("", 9, "dc1:3"), ("2", 9, "dc1:2"), ("a:3,b:2", 9, "a:3,b:2")],
)
def test_replication_is_what_was_asked_or_fits_the_nodes(asked: str, nodes: int, replication: str):
    assert plan(asked, nodes=nodes).replication == replication


@pytest.mark.parametrize("asked", ["0", "x", "a:0", "a:3,", "a':1", "a:1}"])
def test_a_replication_that_cannot_be_is_refused(asked: str):
    with pytest.raises(StoreError, match="use a number, or DC1:3,DC2:3"):
        all_statements(plan(asked))


def test_a_data_centre_must_be_named_where_none_is_known():
    with pytest.raises(StoreError, match="local_dc="):
        plan(url=ClusterUrl("spam", ("host",)))


def test_astra_makes_its_keyspace_itself():
    cql = all_statements(plan(url=ClusterUrl("spam", bundle="b.zip")))
    assert not any("KEYSPACE" in one for one in cql)
    assert len(cql) == 11


def test_a_keyspace_with_capitals_is_quoted():
    assert (quoted("spam_1"), quoted("Spam")) == ("spam_1", '"Spam"')
