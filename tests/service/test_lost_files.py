"""A real service, killed, whose store files were removed or damaged meanwhile: what it answered is logged."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import apsw
import httpx
import pytest

from tests.support.loads import Load
from tests.support.processes import Service, serving

pytestmark = pytest.mark.alone

STORE = ("--mock", "--store", "sqlite:///tamis.db")


def logged(path: Path) -> Counter[str]:
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    rows = Counter(text for (text,) in connection.execute("SELECT text FROM calls"))
    connection.close()
    return rows


def ask(service: Service, texts: list[str]) -> None:
    """Ask for each text alone, on one connection."""
    with httpx.Client(base_url=service.address, timeout=30) as client:
        for text in texts:
            assert client.post("/prediction", json={"text": text}).status_code == 200


def remove(path: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        Path(f"{path}{suffix}").unlink()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), ("-wal", "-shm")], ids="".join)
def test_lost_wal_or_shm_loses_no_acknowledged_row(
    tmp_path: Path, suffixes: tuple[str, ...], workers: int
) -> None:
    path = tmp_path / "tamis.db"
    texts = [f"text {number}" for number in range(300)]
    with serving(tmp_path, *STORE, "--workers", str(workers)) as service:
        ask(service, texts[:100])
        remove(path, *suffixes)
        ask(service, texts[100:])
        with httpx.Client(base_url=service.address) as client:
            assert client.get("/health/ready").json()["status"] == "ready"
        kill(service)
    assert logged(path) == Counter(texts)


@pytest.mark.parametrize("suffixes", [("-wal",), ("-wal", "-shm")], ids="".join)
def test_idle_service_rescues_its_lost_wal(tmp_path: Path, suffixes: tuple[str, ...]) -> None:
    path = tmp_path / "tamis.db"
    texts = [f"text {number}" for number in range(100)]
    with serving(tmp_path, *STORE) as service:
        ask(service, texts)
        remove(path, *suffixes)
        until(lambda: "were rescued" in service.said and Path(f"{path}-wal").exists())
        kill(service)
    assert logged(path) == Counter(texts)


@pytest.mark.parametrize("workers", [1, 2])
def test_wal_lost_again_and_again_under_load_loses_nothing(tmp_path: Path, workers: int) -> None:
    path = tmp_path / "tamis.db"
    chance = random.Random(15)
    with serving(tmp_path, *STORE, "--workers", str(workers)) as service:
        load = Load(service.port, "load")
        with load.running() as ledger:
            for _ in range(12):
                load.wait_for_more(chance.randrange(1, 200))
                for suffix in chance.choice([("-wal",), ("-shm",), ("-wal", "-shm")]):
                    Path(f"{path}{suffix}").unlink(missing_ok=True)
            load.wait_for_more(200)
            kill(service)
    rows = logged(path)
    assert set(ledger.statuses) == {200}
    assert [text for text in ledger.acknowledged if rows[text] == 0] == []
    assert set(rows.values()) == {1}


def test_removed_folder_is_noticed_and_used_again(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    texts = [f"text {number}" for number in range(300)]
    with serving(tmp_path, "--mock", "--store", "sqlite:///store/tamis.db") as service:
        ask(service, texts[:100])
        folder.rename(tmp_path / "moved")
        ask(service, texts[100:200])
        with httpx.Client(base_url=service.address) as client:
            assert client.get("/health/ready").json()["status"] == "degraded"
            folder.mkdir()
            until(lambda: client.get("/health/ready").json()["status"] == "ready")
        ask(service, texts[200:])
        assert service.stop() == 0
    assert logged(folder / "tamis.db") == Counter(texts[100:])
    assert logged(tmp_path / "moved" / "tamis.db") == Counter(texts[:100])


@pytest.mark.parametrize("seed", range(4))
def test_cache_damaged_at_random_under_load_loses_nothing(tmp_path: Path, seed: int) -> None:
    chance, answered = random.Random(seed), list[str]()
    with serving(tmp_path, *STORE, "--workers", "2", TAMIS_CACHE_ROWS="5000") as service:
        for name in ("first workers", "one replaced"):
            load = Load(service.port, name)
            with load.running() as ledger:
                for _ in range(40):
                    load.wait_for_more(chance.randrange(1, 60))
                    damage(tmp_path / "tamis.db-cache128", chance)
            assert set(ledger.statuses) == {200}
            answered += ledger.acknowledged
            workers = service.workers()
            os.kill(min(workers), signal.SIGKILL)  # its successor opens the damaged cache
            until(lambda workers=workers: len(service.workers() - workers) == 1)
        assert service.stop() == 0
    rows = logged(tmp_path / "tamis.db")
    assert [text for text in answered if rows[text] != 1] == []
    assert "Traceback" not in service.said


@pytest.mark.parametrize("content", [bytes(4_096), b"T", b"TamisCach!", b"", b"?" * 20_000])
def test_service_with_a_damaged_cache_starts(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tamis.db-cache128").write_bytes(content)
    (tmp_path / "tamis.db-cache99999999999").write_bytes(content)
    with serving(tmp_path, *STORE) as service:
        ask(service, ["one", "two", "one"])
        assert service.stop() == 0
    assert logged(tmp_path / "tamis.db") == Counter({"one": 2, "two": 1})
    assert service.said.count("cache128: damaged") == (content != b"")


def test_emptied_cache_and_a_replaced_worker_lose_nothing(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(300)]
    with serving(tmp_path, *STORE, "--workers", "2") as service:
        ask(service, texts[:100])
        os.truncate(tmp_path / "tamis.db-cache128", 0)
        ask(service, texts[100:200])
        workers = service.workers()
        os.kill(min(workers), signal.SIGKILL)
        until(lambda: len(service.workers() - {min(workers)}) == 2)
        ask(service, texts[200:])
        assert service.stop() == 0
    assert logged(tmp_path / "tamis.db") == Counter(texts)


def damage(file: Path, chance: random.Random) -> None:
    """Do to the file what a bad disk or a careless operator may do."""
    kind = chance.choice(["bytes", "bytes", "head", "zeros", "truncate", "remove"])
    try:
        size = file.stat().st_size
        if kind == "remove":
            file.unlink()
        elif kind == "truncate":
            os.truncate(file, chance.randrange(size + 1))
        else:
            with file.open("r+b") as opened:
                opened.seek(64 if kind == "head" else chance.randrange(size + 1))
                opened.write(bytes(4_096) if kind == "zeros" else chance.randbytes(8))
    except FileNotFoundError:
        return


def kill(service: Service) -> None:
    """End the service and its workers as a machine that stops does."""
    workers = service.workers()
    service.process.kill()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    service.process.wait()
    until(lambda: not any(Path(f"/proc/{worker}/fd").exists() and is_alive(worker) for worker in workers))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
