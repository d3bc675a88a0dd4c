"""`tamis log` and `tamis migrate` on a file that a service has filled."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from tamis.cli.parameter_types import time_option
from tamis.clock import SystemClock
from tamis.storage import CallRecord, TimeIds, make_store
from tests.support.command_server import tamis_command
from tests.support.fakes import ManualClock

_ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("TAMIS_")}
MODEL = "3f2a" * 16


def tamis(folder: Path, *arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        tamis_command(*arguments),
        cwd=folder,
        env=_ENVIRON | environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def result(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def fill(path: Path, calls: Sequence[tuple[str, str, str]], *, hours_ago: float = 0) -> None:
    """Log (caller, text, label) as a service would."""

    async def append() -> None:
        clock = ManualClock(SystemClock().utc_ns() - round(hours_ago * 3_600e9))
        ids = TimeIds(clock)
        store = make_store(f"sqlite:///{path}", clock)
        await store.open()
        await store.log.append(
            [CallRecord(ids.next(), caller, text, label, 0.97, MODEL, False) for caller, text, label in calls]
        )
        await store.close()

    asyncio.run(append())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models" / "spam").mkdir(parents=True)
    path = tmp_path / "models" / "spam" / "tamis.db"
    fill(path, [("alice", "WIN a free phone", "spam"), ("bob", "lunch?", "ham")], hours_ago=50)
    fill(path, [("alice", "=1+1 \x1b[31mred", "ham"), ("bob", "free\nentry", "spam")])
    return tmp_path


def test_log_prints_the_services_own_calls_newest_first(folder: Path) -> None:
    lines = result(tamis(folder, "log")).splitlines()
    assert [line.split()[1] for line in lines] == ["bob", "alice", "bob", "alice"]
    assert lines[0].endswith("  spam          0.9700  model  free entry")
    assert lines[0][:11] == f"{datetime.now(UTC):%Y-%m-%d}T"


def test_log_prints_nothing_that_a_terminal_obeys(folder: Path) -> None:
    assert "\x1b" not in result(tamis(folder, "log"))


def test_log_tells_labels_of_one_canonical_form_apart(tmp_path: Path) -> None:
    path = tmp_path / "units.db"
    fill(path, [("alice", "forty", "m²"), ("alice", "fifty", "m2")])
    for options in ([], ["--summary"]):
        shown = result(tamis(tmp_path, "log", "--store", f"sqlite:///{path}", *options)).split()
        assert shown.count("m²") == shown.count("m2") == 1


def test_log_filters(folder: Path) -> None:
    found = result(tamis(folder, "log", "--since", "2h", "--label", "spam", "--contains", "FREE"))
    assert found.count("\n") == 1
    assert "free entry" in found
    rows = result(tamis(folder, "log", "--caller", "alice", "--until", "1d", "--ndjson", "--model", MODEL))
    assert [json.loads(row)["input"] for row in rows.splitlines()] == ["WIN a free phone"]


def test_log_gives_forms_for_programs(folder: Path) -> None:
    store = f"sqlite:///{folder}/models/spam/tamis.db"
    page = json.loads(result(tamis(Path("/"), "log", "--json", "--order", "oldest", "--store", store)))
    assert [call["caller"] for call in page["calls"]] == ["alice", "bob", "alice", "bob"]
    assert page["next_cursor"] is None
    rows = list(csv.DictReader(io.StringIO(result(tamis(folder, "log", "--csv", "--limit", "2")))))
    assert [row["input"] for row in rows] == ["free\nentry", "'=1+1 \x1b[31mred"]


def test_log_counts_by_hour_and_label(folder: Path) -> None:
    counts = json.loads(result(tamis(folder, "log", "--summary", "--json", "--caller", "bob")))["counts"]
    assert [(one["label"], one["count"]) for one in counts] == [("ham", 1), ("spam", 1)]
    lines = result(tamis(folder, "log", "--summary")).splitlines()
    assert len(lines) == 5
    assert lines[-1].split() == ["all", "4"]


def test_log_prints_all_rows_for_programs_fifty_lines_for_people(tmp_path: Path) -> None:
    fill(tmp_path / "tamis.db", [("alice", str(n), "ham") for n in range(1_200)])
    environ = {"TAMIS_STORE": "sqlite:///tamis.db"}
    assert result(tamis(tmp_path, "log", **environ)).count("\n") == 50
    rows = result(tamis(tmp_path, "log", "--ndjson", **environ)).splitlines()
    assert [json.loads(row)["input"] for row in rows] == [str(n) for n in reversed(range(1_200))]


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_delete_deletes_nothing_without_a_yes(folder: Path, answer: str) -> None:
    asked = tamis(folder, "log", "delete", "--caller", "alice", stdin=answer)
    assert asked.returncode == 1
    assert "Delete 2 calls of alice" in asked.stderr
    assert asked.stderr.endswith("tamis: nothing was deleted\n")
    assert "alice" in result(tamis(folder, "log"))


def test_delete_removes_one_callers_rows_for_good(folder: Path) -> None:
    assert (
        result(tamis(folder, "log", "delete", "--caller", "alice", "--yes")) == "2 calls of alice deleted\n"
    )
    assert "alice" not in result(tamis(folder, "log"))
    left = b"".join(file.read_bytes() for file in (folder / "models" / "spam").iterdir())
    assert b"WIN a free phone" not in left
    assert b"lunch?" in left


def test_prune_removes_what_is_older(folder: Path) -> None:
    confirmed = tamis(folder, "log", "prune", "--older-than", "2d", stdin="y\n")
    assert confirmed.returncode == 0
    assert confirmed.stdout.startswith("2 calls from before ")
    assert result(tamis(folder, "log")).count("\n") == 2


def test_options_before_a_subcommand_are_refused_not_overlooked(folder: Path) -> None:
    done = tamis(folder, "log", "--store", "sqlite:///other.db", "prune", "--older-than", "0m", "--yes")
    assert done.returncode == 2
    assert "put the options after prune" in done.stderr
    assert result(tamis(folder, "log")).count("\n") == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["log", "--store", "sqlite:///absent.db"], "absent.db: file not found"),
        (
            ["log", "delete", "--caller", "x", "--yes", "--store", "sqlite:///absent.db"],
            "absent.db: file not found",
        ),
        (["log", "--store", "memory:"], "exists in its own process only"),
        (["migrate", "--store", "cassandra://host.invalid/keyspace"], "cannot resolve any host"),
    ],
)
def test_a_wrong_store_is_one_line_and_makes_no_file(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = tamis(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert words in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-21", datetime(2026, 11, 21, tzinfo=UTC)),
        ("2026-11-21T22:38:33Z", datetime(2026, 11, 21, 22, 38, 33, tzinfo=UTC)),
        ("2026-11-21 23:38:33.5+01:00", datetime(2026, 11, 21, 22, 38, 33, 500_000, tzinfo=UTC)),
    ],
)
def test_times_are_read(value: str, expected: datetime) -> None:
    assert time_option(None, None, value) == expected  # type: ignore[arg-type]  # neither is looked at


@pytest.mark.parametrize(("value", "hours"), [("90m", 1.5), ("2h", 2), ("3d", 72), ("1w", 168)])
def test_ages_are_read(value: str, hours: float) -> None:
    moment = time_option(None, None, value)  # type: ignore[arg-type]  # neither is looked at
    assert moment is not None
    assert abs(datetime.now(UTC) - timedelta(hours=hours) - moment) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "value", ["now", "2026-11-21T22:38:33", "9999999w", "-1h", "1.5h", "٣d", "2026-13-01"]
)
def test_a_wrong_time_is_wrong_use(value: str) -> None:
    with pytest.raises(click.BadParameter, match="must be like"):
        time_option(None, None, value)  # type: ignore[arg-type]  # neither is looked at


ALL_MIGRATIONS = "".join(
    f"ran {name}\n"
    for name in ("create_tables", "drop_cache_table", "add_prediction_columns", "create_feedback")
)


def test_migrate_makes_the_tables_and_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    for migrations in (ALL_MIGRATIONS, ""):
        done = tamis(tmp_path, "migrate", "--store", "sqlite:///new.db")
        assert result(done) == f"{migrations}sqlite:new.db has schema version 4\n"
        fill(path, [("alice", "kept", "ham")])
    assert result(tamis(tmp_path, "log", "--store", "sqlite:///new.db")).count("kept") == 2


def test_migrate_prints_the_tables_and_makes_none(tmp_path: Path) -> None:
    shown = result(tamis(tmp_path, "migrate", "--print", "--store", "sqlite:///new.db"))
    assert "CREATE TABLE calls" in shown
    assert list(tmp_path.iterdir()) == []


def test_a_reader_of_the_pipe_who_leaves_ends_it_quietly(tmp_path: Path) -> None:
    fill(tmp_path / "tamis.db", [("alice", "x" * 1_000, "ham")] * 1_000)
    command = f"{sys.executable} -m tamis log --ndjson --store sqlite:///tamis.db | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=_ENVIRON, capture_output=True, text=True, check=False
    )
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")
