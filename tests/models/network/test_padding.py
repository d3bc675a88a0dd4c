"""Sequences as one array."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tamis.models.network.tokenizer import batches_of_like_length, lengths_of, pad

SEQUENCES = [np.array([5, 6], np.int32), np.array([], np.int32), np.array([7, 8, 9], np.int32)]


def test_zeros_follow_a_sequence_or_stand_before_it():
    assert pad(SEQUENCES, width=3).tolist() == [[5, 6, 0], [0, 0, 0], [7, 8, 9]]
    assert pad(SEQUENCES, width=4, left=True).tolist() == [[0, 0, 5, 6], [0, 0, 0, 0], [0, 7, 8, 9]]
    assert lengths_of(SEQUENCES).tolist() == [2, 0, 3]


@given(st.lists(st.integers(0, 50)), st.integers(1, 7))
def test_every_text_is_in_one_batch_and_shorter_ones_come_first(lengths: list[int], most: int):
    batches = list(batches_of_like_length(np.array(lengths, np.int32), max_texts=most))
    order = [place for batch in batches for place in batch.tolist()]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[place] for place in order] == sorted(lengths)
    assert all(0 < batch.size <= most for batch in batches)
