"""`tamis migrate` without a cluster: what it shows, what it refuses, and an embedded store."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.command_server import tamis_command


def _migrate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        tamis_command("migrate", *arguments),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_migrate_prints_a_clusters_tables_as_options_want_them(tmp_path: Path) -> None:
    store = "cassandra://me:hunter2@db1/tamis?local_dc=dc1"
    wishes = ["--keyspace", "spam", "--replication", "dc1:2,dc2:1", "--log-days", "7"]
    done = _migrate(tmp_path, "--print", "--store", store, *wishes)
    assert done.returncode == 0
    assert "CREATE KEYSPACE IF NOT EXISTS spam " in done.stdout
    assert "'dc1': 2, 'dc2': 1}" in done.stdout
    assert "default_time_to_live = 604800" in done.stdout
    assert "hunter2" not in done.stdout


def test_migrate_is_refused_in_line_when_no_data_centre_is_known(tmp_path: Path) -> None:
    done = _migrate(tmp_path, "--print", "--store", "cassandra://db1/tamis")
    assert done.returncode == 1
    assert done.stderr == "tamis: no data centre; use --replication DC:3, or local_dc= in the store URL\n"


def test_migrate_makes_an_embedded_store_and_says_so(tmp_path: Path) -> None:
    for _ in range(2):
        done = _migrate(tmp_path, "--store", "sqlite:///calls.db")
        assert done.stdout.endswith("has schema version 4\n")
    assert (tmp_path / "calls.db").is_file()
    assert _migrate(tmp_path, "--print", "--store", "memory:").stdout == "-- this store has no tables\n"
