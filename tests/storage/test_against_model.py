"""Any sequence of operations, on each store and on a model of a few lines, must agree."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tamis.storage import (
    CallRecord,
    HourCount,
    LogQuery,
    MemorySpool,
    ResilientStore,
    StoreOptions,
    TimeIds,
    make_store,
)
from tamis.storage.ids import called_at, hour_ticks, moment
from tests.support.fakes import ManualClock
from tests.support.store_samples import database, everything

TEXTS = st.one_of(st.sampled_from(["Free", "free\0", "\n", ""]), st.text(max_size=5))
CALLERS = st.sampled_from(["a", "A", "ü"])
LABELS = st.sampled_from(["ham", "spam"])
SECONDS = st.integers(-5_000, 5_000)
CACHE_SECONDS = 4_000


class StoreMachine(RuleBasedStateMachine):
    """Drives one store and the model side by side."""

    url = "memory:"
    is_resilient = False
    options = StoreOptions(cache_seconds=CACHE_SECONDS)

    @initialize()
    def begin(self):
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock()
        self.start = datetime.fromtimestamp(self.clock.utc_ns() / 1e9, UTC)
        self.ids = TimeIds(self.clock)
        url = self.url.format(database(Path(self.folder.name)))
        self.store = make_store(url, self.clock, self.options)
        if self.is_resilient:
            self.store = ResilientStore(self.store, MemorySpool(), self.clock)
        self.runner.run(self.store.open())
        self.calls = {}
        self.answers = {}

    def teardown(self):
        if hasattr(self, "runner"):
            self.runner.run(self.store.close())
            self.runner.close()
            self.folder.cleanup()

    @rule(rows=st.lists(st.tuples(CALLERS, TEXTS, LABELS), max_size=4), again=st.booleans())
    def append(self, rows, again):
        calls = [
            CallRecord(self.ids.next(), caller, text, label, 0.5, "m", again) for caller, text, label in rows
        ]
        self.runner.run(self.store.log.append(calls))
        self.calls.update({one.id: one for one in calls})
        if again:
            self.runner.run(self.store.log.append(list(self.calls.values())[:3]))

    @rule(number=st.integers(0, 3), score=st.floats(0, 1))
    def remember(self, number, score):
        key = bytes([number]) * 32
        self.runner.run(self.store.cache.put_many({key: {"ham": score}}))
        if self.answers.get(key, (0, 0))[1] <= self.clock.monotonic():
            self.answers[key] = ({"ham": score}, self.clock.monotonic() + CACHE_SECONDS)

    @rule()
    def look_up(self):
        keys = [bytes([number]) * 32 for number in range(5)]
        live = {
            key: scores for key, (scores, until) in self.answers.items() if until > self.clock.monotonic()
        }
        assert self.runner.run(self.store.cache.get_many(keys)) == [live.get(key) for key in keys]

    @rule(seconds=st.integers(1, 3_000))
    def let_time_pass(self, seconds):
        self.reopen()  # cached answers wait some real milliseconds to be written, the clock jumps by hours
        self.clock.advance(seconds)

    @rule(seconds=SECONDS)
    def set_the_clock(self, seconds):
        self.clock.step_utc(seconds)

    @rule(
        caller=st.none() | CALLERS,
        label=st.none() | LABELS,
        contains=st.none() | st.sampled_from(["fRee", "\0", "ü", ""]),
        since=st.none() | SECONDS,
        until=st.none() | SECONDS,
        newest_first=st.booleans(),
        limit=st.integers(1, 5),
    )
    def ask(self, caller, label, contains, since, until, newest_first, limit):
        query = LogQuery(
            caller, self._moment(since), self._moment(until), label, contains, None, newest_first
        )
        asked_for = filter(lambda one: wanted(one, query), self.calls.values())
        expected = sorted(asked_for, key=lambda one: one.id, reverse=newest_first)
        assert self.runner.run(everything(self.store, query, limit=limit)) == expected
        counts = Counter((moment(hour_ticks(one.id)), one.label) for one in expected)
        summary = [HourCount(*which, count) for which, count in sorted(counts.items())]
        assert self.runner.run(self.store.log.summary(query)) == summary

    @rule(caller=CALLERS)
    def forget_a_caller(self, caller):
        self._forget(self.store.log.delete_caller(caller), LogQuery(caller))

    @rule(seconds=SECONDS)
    def forget_the_old(self, seconds):
        moment = self._moment(seconds)
        self._forget(self.store.log.delete_before(moment), LogQuery(until=moment))

    @rule()
    def reopen(self):
        self.runner.run(self.store.close())
        self.runner.run(self.store.open())

    def _moment(self, seconds):
        return None if seconds is None else self.start + timedelta(seconds=seconds)

    def _forget(self, deletion, query):
        doomed = [one.id for one in self.calls.values() if wanted(one, query)]
        assert self.runner.run(deletion) == len(doomed)
        for time_id in doomed:
            del self.calls[time_id]


def wanted(one, query):
    return all(
        [
            query.caller is None or one.caller == query.caller,
            query.label is None or one.label == query.label,
            query.since is None or called_at(one.id) >= query.since,
            query.until is None or called_at(one.id) < query.until,
            query.contains is None or ascii_lower(query.contains) in ascii_lower(one.text),
        ]
    )


def ascii_lower(text):
    return "".join(c.lower() if c.isascii() else c for c in text)


KINDS = {
    "memory": {"url": "memory:"},
    "sqlite": {"url": "sqlite:///{}"},
    "resilient": {"url": "sqlite:///{}", "is_resilient": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_agrees_with_the_model_whatever_is_done(kind):
    machine = type(f"{kind.title()}Machine", (StoreMachine,), KINDS[kind])
    case = machine.TestCase
    case.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
    case("runTest").debug()
