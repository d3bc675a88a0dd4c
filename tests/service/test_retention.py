"""Old calls go, a little at a time; young ones stay, whatever happens to the wall clock."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from tamis.service.retention import STEP_SECONDS, Retention
from tamis.settings import Settings
from tamis.storage import RETENTION_DAYS, LogQuery
from tamis.storage.sqlite.schema import APPLICATION_ID, MIGRATIONS
from tests.support.logbook import Log, with_log

DAY_SECONDS = 86_400


async def texts(log: Log) -> list[str]:
    return [call.text for call in (await log.store.log.read(LogQuery())).rows]


async def one_step(log: Log, retention: Retention) -> None:
    """Let the next step happen: it sleeps when it is over."""
    retention.start()
    await log.clock.sleeper()
    await retention.stop()


@pytest.fixture(params=["memory", "sqlite"])
def store_url(request: pytest.FixtureRequest, tmp_path: object) -> str:
    return "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/tamis.db"


def test_calls_are_deleted_when_they_are_older_than_the_days(store_url: str) -> None:
    async def test(log: Log) -> None:
        await log.call("old")
        log.clock.advance(DAY_SECONDS)
        await log.call("young")
        log.clock.advance(6 * DAY_SECONDS)
        retention = Retention(Settings(log_retention_days=7), log.store, log.clock)
        await one_step(log, retention)
        assert await texts(log) == ["old", "young"]
        log.clock.advance(1)
        await one_step(log, retention)
        assert await texts(log) == ["young"]

    with_log(store_url, test)


def test_steps_go_on_while_the_service_runs() -> None:
    async def test(log: Log) -> None:
        retention = Retention(Settings(log_retention_days=1), log.store, log.clock)
        retention.start()
        await log.clock.sleeper()
        await log.call("old")
        log.clock.advance(DAY_SECONDS + 1)
        await log.clock.sleeper()
        assert await texts(log) == []
        await retention.stop()

    assert STEP_SECONDS < DAY_SECONDS
    with_log("memory:", test)


def test_nothing_is_deleted_when_the_wall_clock_is_set_forward() -> None:
    async def test(log: Log) -> None:
        retention = Retention(Settings(log_retention_days=1), log.store, log.clock)
        await log.call("young")
        log.clock.step_utc(2 * DAY_SECONDS)
        await one_step(log, retention)
        assert await texts(log) == ["young"]

    with_log("memory:", test)


def test_nothing_is_deleted_when_days_is_zero() -> None:
    async def test(log: Log) -> None:
        await log.call("old")
        log.clock.advance(100_000 * DAY_SECONDS)
        retention = Retention(Settings(log_retention_days=0), log.store, log.clock)
        await one_step(log, retention)
        assert await texts(log) == ["old"]

    with_log("memory:", test)


def test_a_step_that_fails_is_followed_by_another(caplog: pytest.LogCaptureFixture) -> None:
    async def test(log: Log) -> None:
        await log.call("old")
        log.clock.advance(2 * DAY_SECONDS)
        retention = Retention(Settings(log_retention_days=1), log.store, log.clock)
        await log.store.close()
        retention.start()
        await log.clock.sleeper()
        await log.store.open()
        log.clock.advance(STEP_SECONDS)
        await log.clock.sleeper()
        assert await texts(log) == []
        await retention.stop()

    with_log("memory:", test)
    assert "old calls could not be deleted" in caplog.text


def test_new_store_keeps_calls_for_the_days_of_the_setting() -> None:
    assert Settings.model_fields["log_retention_days"].default == RETENTION_DAYS == 90


def test_calls_of_a_new_store_are_deleted_by_default(store_url: str) -> None:
    async def test(log: Log) -> None:
        await log.call("old")
        log.clock.advance(90 * DAY_SECONDS)
        retention = Retention(Settings(), log.store, log.clock)
        await one_step(log, retention)
        assert await texts(log) == ["old"]
        log.clock.advance(1)
        await one_step(log, retention)
        assert await texts(log) == []

    with_log(store_url, test)


def test_calls_of_an_older_store_are_kept_by_default(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "tamis.db"))
    for step in MIGRATIONS[:2]:
        step(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 2")
    connection.close()

    async def test(log: Log) -> None:
        await log.call("old")
        log.clock.advance(9_000 * DAY_SECONDS)
        await one_step(log, Retention(Settings(), log.store, log.clock))
        assert await texts(log) == ["old"]
        await one_step(log, Retention(Settings(log_retention_days=90), log.store, log.clock))
        assert await texts(log) == []

    with_log(f"sqlite:///{tmp_path}/tamis.db", test)
