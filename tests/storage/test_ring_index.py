"""Where keys lie in a ring: all at once as one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.storage.sqlite.ring_index import RingIndex
from tests.support.store_samples import digest as key


def rows(keys: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)


@given(st.integers(1, 60), st.lists(st.integers(0, 200), max_size=120), st.integers(1, 120))
def test_many_keys_are_noted_as_one_after_the_other(n_slots: int, numbers: list[int], at_once: int) -> None:
    one_by_one, together = RingIndex(n_slots), RingIndex(n_slots)
    for start in range(0, len(numbers), at_once):
        keys = [key(number) for number in numbers[start : start + at_once]]
        for each in keys:
            one_by_one.add(each)
        together.add_many(rows(keys))
        assert together.head == one_by_one.head == min(start + at_once, len(numbers))
        for number in numbers:
            assert together.find(key(number)) == one_by_one.find(key(number))
    asked = [key(number) for number in range(250)]
    suspects = {asked[place] for place in together.maybe_contains(rows(asked))}
    assert {each for each in asked if together.find(each)} <= suspects
    assert len(suspects) <= len({*numbers}) + 50  # a byte in 256 is the same by chance, in eight entries


@pytest.mark.parametrize("already_written", [0, 2**32 - 50, 2**62])
def test_a_key_is_found_until_its_slot_is_written_over(already_written: int) -> None:
    index = RingIndex(100)
    index.skip_to(already_written)
    for number in range(1_000):
        index.add(key(number))
        assert already_written + number in index.find(key(number))
        assert already_written + number - 100 not in index.find(key(number - 100))
