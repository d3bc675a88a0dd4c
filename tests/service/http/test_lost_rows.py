"""Rows that cannot be written at a clean stop: exit code 3 and their number, or a file that keeps them."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tamis.storage import CallRecord, FileSpool
from tests.support.faults import locked_by_another_process
from tests.support.processes import Service, serving

pytestmark = pytest.mark.alone

_TEXTS = 24
_STORE = "sqlite:///tamis.db"


def _ask(service: Service) -> None:
    for number in range(_TEXTS):  # a connection each, so that several workers answer
        reply = httpx.get(f"{service.address}/prediction?text=number+{number}", timeout=30)
        assert reply.status_code == 200


def _lost(service: Service) -> list[int]:
    found = re.findall(r"(\d+) rows of the call log are lost; they waited in memory", service.said)
    return [int(number) for number in found]


@pytest.mark.parametrize(("workers", "log_format"), [("1", "text"), ("2", "json")])
def test_rows_lost_at_stop_give_exit_code_3(tmp_path: Path, workers: str, log_format: str) -> None:
    environ = {"TAMIS_DRAIN_SECONDS": "0", "TAMIS_LOG_FORMAT": log_format}
    with serving(tmp_path, "--mock", "--store", _STORE, "--workers", workers, **environ) as service:
        with locked_by_another_process(tmp_path / "tamis.db"):
            _ask(service)
            assert service.stop() == 3, service.said
        assert sum(_lost(service)) == _TEXTS, service.said
        assert 1 <= len(_lost(service)) <= int(workers)
        assert "Traceback" not in service.said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_rows_sent_before_stop_give_exit_code_0(tmp_path: Path, workers: str) -> None:
    with serving(
        tmp_path,
        "--mock",
        "--store",
        _STORE,
        "--workers",
        workers,
        TAMIS_DRAIN_SECONDS="0",
    ) as service:
        with locked_by_another_process(tmp_path / "tamis.db"):
            _ask(service)
        assert service.stop() == 0, service.said  # the last attempt, at the stop itself, succeeds
        assert _lost(service) == []
    with serving(tmp_path, "--mock", "--store", _STORE, TAMIS_DRAIN_SECONDS="0") as service:
        assert len(httpx.get(f"{service.address}/recent_log").json()) == _TEXTS


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_rows_for_a_cluster_stay_in_their_file(tmp_path: Path, workers: str) -> None:
    pytest.importorskip("cassandra", reason="tamis[cassandra] is not installed")
    environ = {"TAMIS_START_WITHOUT_STORE": "true", "TAMIS_SPOOL_FILE": str(tmp_path / "spool.tamis")}
    nowhere = "cassandra://127.0.0.1:1/tamis"
    with serving(
        tmp_path,
        "--mock",
        "--store",
        nowhere,
        "--workers",
        workers,
        is_program=True,
        TAMIS_DRAIN_SECONDS="0",
        **environ,
    ) as service:
        _ask(service)
        assert service.stop() == 0, service.said
        assert _lost(service) == []
        kept = re.findall(r"(\d+) rows of the call log wait in (\S+):", service.said)
    assert sum(int(number) for number, _ in kept) == _TEXTS
    found = [call.text for _, path in kept for call in await _in_file(Path(path))]
    assert sorted(found) == sorted(f"number {number}" for number in range(_TEXTS))


async def _in_file(path: Path) -> list[CallRecord]:
    spool = FileSpool(path)
    await spool.open()
    try:
        return await spool.oldest(_TEXTS)
    finally:
        await spool.close()
