from __future__ import annotations

from pathlib import Path

import pytest

from tamis.errors import SettingsError
from tamis.service.wiring import store_options
from tamis.settings import Settings
from tamis.storage import Astra, ClusterOptions

ASTRA = {
    "store": "astra:",
    "astra_db_keyspace": "spam",
    "astra_db_secure_bundle_path": "b.zip",
}
CLIENT = {"astra_db_client_id": "id", "astra_db_client_secret": "hunter2"}


def test_a_token_wins_over_a_client() -> None:
    settings = Settings(**ASTRA, **CLIENT, astra_db_application_token="AstraCS:x")
    assert store_options(settings).cluster.astra == Astra(Path("b.zip"), "spam", "token", "AstraCS:x")


def test_a_client_opens_the_database_where_there_is_no_token() -> None:
    options = store_options(Settings(**ASTRA, **CLIENT))
    assert options.cluster.astra == Astra(Path("b.zip"), "spam", "id", "hunter2")
    assert "hunter2" not in repr(options)


@pytest.mark.parametrize(
    ("left_out", "named"),
    [
        ("astra_db_keyspace", "ASTRA_DB_KEYSPACE"),
        ("astra_db_secure_bundle_path", "ASTRA_DB_SECURE_BUNDLE_PATH"),
        ("astra_db_client_id", "ASTRA_DB_APPLICATION_TOKEN"),
        ("astra_db_client_secret", "ASTRA_DB_APPLICATION_TOKEN"),
    ],
)
def test_what_is_missing_for_astra_is_named(left_out: str, named: str) -> None:
    given = {name: value for name, value in (ASTRA | CLIENT).items() if name != left_out}
    with pytest.raises(SettingsError, match=f"store astra: needs {named}"):
        store_options(Settings(**given))


def test_other_stores_need_nothing_of_astra() -> None:
    assert store_options(Settings()).cluster == ClusterOptions()


def test_another_keyspace_of_the_same_cluster_keeps_the_rest() -> None:
    cluster = Settings(store="cassandra://u:p@h1,h2/tamis?local_dc=dc1").with_keyspace("other")
    assert cluster.store == "cassandra://u:p@h1,h2/other?local_dc=dc1"
    assert Settings(**ASTRA).with_keyspace("other").astra_db_keyspace == "other"
