from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.errors import InputError
from tamis.storage.ids import (
    CacheKeys,
    TimeIds,
    as_uuid,
    called_at,
    first_id_at,
    from_uuid,
    hour_ticks,
    moment,
    uuid_text,
)
from tamis.storage.query import decode_cursor, encode_cursor
from tests.support.fakes import ManualClock

SECRET = bytes(range(32))


def test_a_cache_key_is_the_same_in_every_process():
    expected = "544d1faa7824c17d2c7217a1727180739670ab82e52e96299ee3926d9184a4ec"
    key = CacheKeys(SECRET, model="m", options="o").key("hello")
    assert key.hex() == expected, "a changed key makes every cache worthless: change it on purpose"


@given(st.lists(st.text(max_size=3), min_size=6, max_size=6))
@settings(max_examples=200)
def test_cache_keys_differ_whenever_anything_differs(parts):
    first, second = tuple(parts[:3]), tuple(parts[3:])
    keys = [CacheKeys(SECRET, model=m, options=o).key(text) for m, o, text in (first, second)]
    assert (keys[0] == keys[1]) == (first == second)


def test_a_cache_key_depends_on_the_secret():
    assert CacheKeys(SECRET, model="m").key("a") != CacheKeys(bytes(32), model="m").key("a")


@given(st.lists(st.floats(-4_000, 4_000), max_size=60))
@settings(max_examples=100)
def test_ids_strictly_increase_however_the_clock_steps(steps):
    clock = ManualClock()
    ids = TimeIds(clock)
    made = []
    for step in steps:
        made += [ids.next(), ids.next()]
        clock.step_utc(step)
    made.append(ids.next())
    assert made == sorted(set(made))


@given(st.binary(min_size=8, max_size=8), st.integers(0, 4_000_000_000_000_000_000))
@settings(max_examples=200)
def test_an_id_is_a_version_1_uuid_that_shows_no_network_card(random, utc_ns):
    time_id = TimeIds(ManualClock(utc_ns), lambda count: random).next()
    uuid = as_uuid(time_id)
    assert (uuid.version, uuid.variant) == (1, RFC_4122)
    assert from_uuid(uuid) == time_id
    assert uuid_text(time_id) == str(uuid)
    assert uuid.node >> 40 & 1, "the multicast bit is set"
    assert all(byte < 0x80 for byte in time_id[9:]), "Cassandra's signed order is the order of bytes"
    assert called_at(time_id) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=utc_ns // 1000)


def test_two_makers_on_one_clock_never_make_the_same_id():
    clock = ManualClock()
    makers = [TimeIds(clock) for _ in range(20)]
    assert len({maker.next() for maker in makers}) == 20


_FORK = """
import os
from tamis.clock import SystemClock
from tamis.storage.ids import TimeIds
ids = TimeIds(SystemClock())
ids.next()
if (child := os.fork()) == 0:
    print(ids.next()[8:].hex(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(ids.next()[8:].hex())
"""


def test_a_forked_child_has_a_node_of_its_own():
    # in a process of its own: this one may hold libraries that do not bear a fork
    run = subprocess.run([sys.executable, "-c", _FORK], capture_output=True, text=True, check=True)
    of_child, of_parent = run.stdout.split()
    assert of_child != of_parent


def test_ids_hour_never_steps_back_with_the_clock():
    clock = ManualClock()
    ids = TimeIds(clock)
    ids.next()
    clock.step_utc(-3_600)
    hour = ids.this_hour()
    assert hour == moment(hour_ticks(ids.next()))
    assert (hour.minute, hour.second, hour.microsecond, hour.tzinfo) == (0, 0, 0, UTC)


def test_the_first_id_of_a_moment_is_not_behind_any_id_of_it():
    clock = ManualClock()
    time_id = TimeIds(clock).next()
    moment = called_at(time_id)
    assert first_id_at(moment) <= time_id < first_id_at(moment + timedelta(microseconds=1))
    assert first_id_at(datetime.min.replace(tzinfo=UTC)) == bytes(16)
    assert first_id_at(datetime.max.replace(tzinfo=UTC)) > time_id


@given(st.binary(min_size=16, max_size=16))
@settings(max_examples=50)
def test_a_cursor_leads_back_to_its_id(time_id):
    assert decode_cursor(encode_cursor(time_id)) == time_id


@given(st.one_of(st.text(max_size=40), st.binary(max_size=30).map(lambda raw: raw.hex())))
@settings(max_examples=300)
def test_anything_else_is_no_cursor(text):
    with pytest.raises(InputError) as refused:
        decode_cursor(text)
    assert (refused.value.code, refused.value.field) == ("bad_cursor", "cursor")


@given(st.binary(min_size=16, max_size=16), st.integers(0, 27), st.sampled_from("AQgw-_z0"))
@settings(max_examples=200)
def test_a_cursor_with_a_changed_character_is_refused(time_id, place, character):
    cursor = encode_cursor(time_id)
    changed = cursor[:place] + character + cursor[place + 1 :]
    if changed != cursor:
        with pytest.raises(InputError):
            decode_cursor(changed)
