"""Servers that share one cluster, seen from outside."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import httpx
import pytest

from tamis.clock import SystemClock
from tamis.storage import CallRecord, LogQuery, TimeIds, make_store, pages
from tests.storage.test_versions import VERSIONS, check_rows
from tests.support.cassandra_cluster import Cluster
from tests.support.cassandra_serving import serving, tamis
from tests.support.keyspaces import PATIENT, url_of
from tests.support.lifecycle_loop import run_loop
from tests.support.store_samples import call

pytestmark = pytest.mark.cassandra

MANY = 60_000
LONG = "a text of 500 characters".ljust(500, ".")
"""All rows as one document would take more memory than a server may for a stream."""
QUORUM = {"TAMIS_STORE_CACHE_CONSISTENCY": "LOCAL_QUORUM"}  # one replica may not have the answer yet
WITHOUT_MEMORY = {"TAMIS_CACHE_MEMORY_ROWS": "0", **QUORUM}


def test_the_workshops_story_through_http(tmp_path: Path, empty_keyspace: str):
    with (
        serving(tmp_path, empty_keyspace, **WITHOUT_MEMORY) as (_, address),
        httpx.Client(base_url=address) as client,
    ):
        three = ["WIN a FREE phone", "lunch at noon?", "call me"]
        first = client.post("/predictions", json={"texts": three}).json()
        assert [one["from_cache"] for one in first] == [False] * 3
        six = [three[0], three[1], "new one", three[2], "new two", "new three"]
        second = client.post("/predictions", json={"texts": six}).json()
        assert [one["from_cache"] for one in second] == [True, True, False, True, False, False]
        assert [one["input"] for one in second] == six
        assert same(second[0], first[0] | {"from_cache": True})
        got = client.get("/prediction", params={"text": three[0], "echo_input": True}).json()
        posted = client.post("/prediction", json={"text": three[0], "echo_input": True}).json()
        assert same(got, posted) and same(posted, second[0])
        skipped = client.post("/prediction", json={"text": three[0], "skip_cache": True}).json()
        assert same(skipped, first[0] | {"input": None})
        log = client.get("/recent_log").json()
        assert [one["input"] for one in log] == [*three, *six, *[three[0]] * 3]
        assert [one["index"] for one in log] == list(range(12))
        assert [one["called_at"] for one in log] == sorted(one["called_at"] for one in log)


def test_two_servers_share_one_cache_and_one_log(tmp_path: Path, empty_keyspace: str):
    with (
        serving(tmp_path, empty_keyspace, **QUORUM) as (_, one),
        serving(tmp_path, empty_keyspace, **QUORUM) as (_, other),
    ):
        fresh = httpx.post(f"{one}/prediction", json={"text": "shared"}).json()
        known = httpx.post(f"{other}/prediction", json={"text": "shared"}).json()
        assert (fresh["from_cache"], known["from_cache"]) == (False, True)
        assert known["prediction"] == fresh["prediction"]
        for address in (one, other):
            assert [row["input"] for row in httpx.get(f"{address}/recent_log").json()] == ["shared"] * 2


async def test_an_hour_of_many_calls_is_streamed_in_order(tmp_path: Path, empty_keyspace: str, operator):
    async def fill() -> None:
        store, ids = make_store(empty_keyspace, SystemClock(), PATIENT), TimeIds(SystemClock())
        await store.open()
        for start in range(0, MANY, 4_000):
            await store.log.append(
                [
                    CallRecord(ids.next(), "127.0.0.1", f"text {number} {LONG}", "ham", 0.5, "m", False)
                    for number in range(start, start + 4_000)
                ]
            )
        await store.close()

    await fill()
    slow = {"TAMIS_STORE_DEADLINE_SECONDS": "10"}
    with serving(tmp_path, empty_keyspace, is_program=True, **slow) as (process, address):
        before = _memory_bytes(process.pid)
        with httpx.stream("GET", f"{address}/recent_log", timeout=120) as answer:
            rest, expected = "", 0
            for part in answer.iter_text():
                *whole, rest = (rest + part).split('"input":')
                for piece in whole[1:] if expected == 0 else whole:
                    expected += f'"text {expected} ' in piece
        expected += f'"text {expected} ' in rest
        grown = _memory_bytes(process.pid) - before
    assert expected == MANY
    assert grown < 32 * 2**20
    counts = operator.execute(
        "SELECT caller, hour, shard, count(*) FROM tamis.calls GROUP BY caller, hour, shard"
    )
    assert 0 < max(row[-1] for row in counts) < MANY / 2


def test_migrate_makes_the_tables_once_and_serve_does_it_too(tmp_path: Path, cluster: Cluster, operator):
    url = url_of(cluster, "fresh")
    refused = tamis("serve", "--mock", "--port", "0", "--store", url)
    assert_one_line(refused, "keyspace not found; run: tamis migrate --store cassandra://127.0.0.1")
    for _ in range(2):
        done = tamis("migrate", "--store", url, "--replication", "2", "--log-days", "7")
        assert done.stdout.endswith("/fresh has schema version 3\n"), done.stderr
    replication = operator.execute(
        "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = 'fresh'"
    ).one()[0]
    assert replication["datacenter1"] == "2"
    shown = tamis("migrate", "--print", "--keyspace", "by_hand", "--store", url).stdout
    for statement in shown.split(";\n")[:-1]:
        operator.execute(statement)
    assert tamis("migrate", "--store", url_of(cluster, "by_hand")).stdout.endswith("schema version 3\n")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "wrong"}, "wrong user or password"),
        ({"keyspace": "nowhere"}, "keyspace not found; run: tamis migrate --store"),
        ({"dc": "mars"}, "data centre 'mars' not found; set local_dc to datacenter1"),
        ({"host": "127.0.0.98"}, "all hosts failed (127.0.0.98:9042)"),
        ({"host": "no-such-host.invalid"}, "cannot resolve any host; check their names"),
    ],
)
def test_what_cannot_be_opened_is_one_line(cluster: Cluster, keyspace: str, changes, words: str):
    url = url_of(
        cluster, changes.get("keyspace", "tamis"), password=changes.get("password", "s3cret-of-the-tests")
    )
    url = url.replace("datacenter1", changes.get("dc", "datacenter1"))
    url = url.replace(cluster.hosts, changes.get("host", cluster.hosts))
    for arguments in (["serve", "--mock", "--port", "0"], ["log"]):
        assert_one_line(tamis(*arguments, "--store", url), words)


async def test_keyspace_of_version_1_is_migrated_by_name(cluster: Cluster, operator):
    """Replay the CQL that the version of November 2026 wrote, under another name."""
    cql = (VERSIONS / "keyspace-1.cql").read_text("utf-8").replace("tamis", "old")
    for statement in cql.split("\n-- \n"):
        operator.execute(statement)
    url = url_of(cluster, "old")
    refused = tamis("serve", "--mock", "--port", "0", "--store", url)
    assert_one_line(refused, "the tables have version 1, not 3; run: tamis migrate")
    done = tamis("migrate", "--store", url)
    assert done.stdout.splitlines()[:2] == ["ran add_prediction_columns", "ran create_feedback"], done.stderr
    assert tamis("migrate", "--store", url).stdout.endswith("/old has schema version 3\n")

    async def check() -> None:
        store = make_store(url, SystemClock(), PATIENT)
        await store.open()
        check_rows([row async for page in pages(store.log, LogQuery(), limit=2) for row in page])
        new = call(TimeIds(SystemClock()), decision="spam", model_name="spam", model_version="7")
        await store.log.append([new])
        assert await store.log.find(new.id) == new
        await store.close()

    await check()
    operator.execute("INSERT INTO old.meta (name, value) VALUES ('schema_version', '99')")
    told = tamis("serve", "--mock", "--port", "0", "--store", url)
    assert_one_line(told, "schema version 99 was written by a newer Tamis")


def test_interrupted_migration_is_finished_by_the_next(cluster: Cluster, operator):
    cql = (VERSIONS / "keyspace-1.cql").read_text("utf-8").replace("tamis", "half")
    for statement in cql.split("\n-- \n"):
        operator.execute(statement)
    operator.execute("ALTER TABLE half.calls ADD decision text")
    done = tamis("migrate", "--store", url_of(cluster, "half"))
    assert done.stdout.endswith("/half has schema version 3\n"), done.stderr


def test_the_log_command_reads_a_cluster(tmp_path: Path, empty_keyspace: str):
    with serving(tmp_path, empty_keyspace) as (_, address):
        httpx.post(f"{address}/predictions", json={"texts": ["one", "two"]})
    assert "one" in tamis("log", "--store", empty_keyspace).stdout


def test_the_documented_queries_can_be_typed(keyspace: str, operator):
    page = (Path(__file__).parents[2] / "docs" / "cassandra.md").read_text("utf-8")
    [block] = re.findall(r"```cql\n(.*?)```", page, re.DOTALL)
    for query in block.strip().split(";\n"):
        operator.execute(query)


def test_loop_from_feedback_to_a_promoted_version(tmp_path: Path, empty_keyspace: str):
    run_loop(tmp_path, empty_keyspace)


def assert_one_line(done, words: str) -> None:
    assert done.returncode == 1
    [line] = [one for one in done.stderr.splitlines() if "MOCK MODEL" not in one]
    assert line.startswith("tamis: ")
    assert words in line
    assert "s3cret" not in line


def _memory_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def same(answer: dict[str, object], other: dict[str, object]) -> bool:
    """Compare two answers but for their ids, which are different each time."""
    assert answer["id"] != other["id"]
    return answer | {"id": ""} == other | {"id": ""}
