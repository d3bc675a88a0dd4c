"""Ids, hours and shards on their way to Cassandra's order and back."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from tamis.storage import LogQuery, TimeIds, called_at
from tamis.storage.cassandra.partitions import hours_of, lowest_uuid, shard_of, ticks_at
from tamis.storage.ids import TICKS_PER_HOUR, as_uuid, hour_ticks, moment, ticks_of
from tamis.storage.query import Span
from tests.support.fakes import ManualClock


def in_cassandras_order(uuid) -> tuple[int, list[int]]:
    """Sort as TimeUUIDType does: by time, then by the other bytes as signed numbers."""
    return uuid.time, [byte - 256 if byte > 127 else byte for byte in uuid.bytes[8:]]


@given(st.integers(0, (1 << 60) - 2), st.binary(min_size=8, max_size=8))
def test_lowest_uuid_of_a_tick_separates_it_from_earlier_ones(ticks, tail):
    clock = ManualClock(utc_ns=(ticks - 0x01B21DD213814000) * 100)
    time_id = TimeIds(clock, random_bytes=lambda _: tail).next() if ticks else bytes(16)
    if not ticks:
        return
    assert ticks_of(time_id) == ticks
    order = in_cassandras_order(as_uuid(time_id))
    assert in_cassandras_order(lowest_uuid(ticks)) <= order < in_cassandras_order(lowest_uuid(ticks + 1))


@given(st.integers(0, 30_000), st.booleans())
def test_pages_of_a_span_never_meet_the_cursor_again(seconds, newest_first):
    clock = ManualClock()
    ids = TimeIds(clock)
    first = ids.next()
    clock.advance(seconds)
    second = ids.next()
    after, other = (second, first) if newest_first else (first, second)
    span = Span.of(LogQuery(newest_first=newest_first), after)
    assert span.holds(other) and not span.holds(after)
    low, high = span.ticks
    assert low <= ticks_of(other) < high


def test_the_hours_of_a_span_are_in_its_order():
    clock = ManualClock()
    now = called_at(TimeIds(clock).next())
    wish = {"since": now, "until": now + timedelta(hours=2)}
    hours = list(hours_of(Span.of(LogQuery(**wish))))
    assert hours == sorted(hours) and len(hours) == 3
    assert list(hours_of(Span.of(LogQuery(newest_first=True, **wish)))) == hours[::-1]
    assert all(hour % TICKS_PER_HOUR == 0 for hour in hours)


def test_an_hour_comes_back_as_the_driver_gives_it():
    time_id = TimeIds(ManualClock()).next()
    assert ticks_at(moment(hour_ticks(time_id)).replace(tzinfo=None)) == hour_ticks(time_id)


def test_shards_share_a_callers_hour_evenly():
    ids = TimeIds(ManualClock())
    counts = [0] * 8
    for _ in range(8_000):
        counts[shard_of(ids.next(), 8)] += 1
    assert min(counts) > 850 and max(counts) < 1_150
