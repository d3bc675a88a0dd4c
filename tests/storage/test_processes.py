"""Several processes on one file, killed without warning. `TAMIS_KILLS` asks for more kills."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import apsw

from tests.support.store_samples import database

TESTS = Path(__file__).parent.parent
KILLS = int(os.environ.get("TAMIS_KILLS", "24"))


def appender(path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, str(TESTS / "support" / "appender.py"), str(path), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


def ids_in(data: bytes) -> list[bytes]:
    """Return the whole ids: each was one write, and a pipe cuts none of 16 bytes."""
    assert len(data) % 16 == 0
    return [data[i : i + 16] for i in range(0, len(data), 16)]


def logged_ids(path: Path) -> Counter[bytes]:
    connection = apsw.Connection(str(path))
    assert connection.pragma("integrity_check") == "ok"
    found = Counter(row[0] for row in connection.execute("SELECT id FROM calls"))
    in_index = connection.execute("SELECT count(*) FROM calls INDEXED BY calls_by_caller").get
    assert in_index == found.total()
    connection.close()
    return found


def test_kill_9_loses_and_doubles_no_acknowledged_row(tmp_path: Path):
    path = database(tmp_path)
    rng = Random(9)
    acknowledged: list[bytes] = []
    for _ in range(KILLS // 2):
        pair = [appender(path), appender(path)]
        for child in pair:
            assert child.stdout is not None
            first = child.stdout.read(16 * rng.randrange(1, 400))
            child.kill()
            rest, _ = child.communicate()
            assert child.returncode == -9, "it was killed, it did not end by itself"
            acknowledged += ids_in(first + rest)
        logged = logged_ids(path)
        assert not set(acknowledged) - set(logged), "acknowledged rows were lost"
        assert logged.most_common(1)[0][1] == 1
    assert len(acknowledged) == len(set(acknowledged)) > KILLS


def test_four_processes_append_to_one_file_and_every_row_arrives(tmp_path: Path):
    path = database(tmp_path)
    children = [appender(path, "1500") for _ in range(4)]
    acknowledged = [one for child in children for one in ids_in(child.communicate()[0])]
    assert [child.returncode for child in children] == [0] * 4
    assert len(acknowledged) == 6_000
    assert logged_ids(path) == Counter(acknowledged)
