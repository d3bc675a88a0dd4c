from __future__ import annotations

import csv
import random
import re
from itertools import combinations
from string import ascii_lowercase

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tamis.data.near_duplicates import (
    known_share,
    near_duplicate_form,
    near_duplicate_groups,
    near_duplicate_groups_in_numpy,
)
from tamis.native import is_compiled
from tamis.normalization import canonical, decompose

LONG_WORDS = [a + b for a in ("mar", "ben", "tol", "kir", "sud") for b in ("ane", "oso", "ury", "il", "erta")]
WORDS = ["win", "a", "free", "phone", "now", "call", "before", "noon", "ok", "😀"]
PHRASES = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
ANY_TEXT = st.text(st.characters(), max_size=12)  # lone surrogates too
# Slices of one text share whole runs of 5-grams, so their similarities fall on, above and below a threshold.
SLICES = st.tuples(st.integers(0, 25), st.integers(1, 25)).map(lambda cut: ascii_lowercase[cut[0] : sum(cut)])


def five_grams(form: str) -> frozenset[str]:
    return frozenset(form[i : i + 5] for i in range(max(1, len(form) - 4)))


def brute_force(texts: list[str], threshold: float) -> list[int]:
    """Compare all pairs, join until nothing changes, number by first appearance."""
    sets = [five_grams(near_duplicate_form(text)) for text in texts]
    group = list(range(len(texts)))
    for a, b in combinations(range(len(texts)), 2):
        if len(sets[a] & sets[b]) / len(sets[a] | sets[b]) >= threshold:
            group = [group[a] if g == group[b] else g for g in group]
    seen: dict[int, int] = {}
    return [seen.setdefault(g, len(seen)) for g in group]


@settings(max_examples=300, deadline=None)
@given(st.lists(PHRASES | ANY_TEXT | SLICES, max_size=12), st.sampled_from([0.3, 0.5, 0.8, 0.9, 1.0]))
@example(["", "\0", "abcd", "abcd\0"], 1.0)  # short texts are filled up: not with what a text may hold
def test_groups_are_those_of_comparing_all_pairs(texts, threshold):
    assert near_duplicate_groups(texts, threshold=threshold).tolist() == brute_force(texts, threshold)


@settings(max_examples=50, deadline=None)
@given(st.lists(PHRASES | SLICES, max_size=20), st.randoms())
def test_groups_are_the_same_when_the_texts_are_shuffled(texts, random):
    order = list(range(len(texts)))
    random.shuffle(order)
    groups, shuffled = near_duplicate_groups(texts), near_duplicate_groups([texts[i] for i in order])
    together = {(i, j) for i in order for j in order if groups[i] == groups[j]}
    assert together == {(order[i], order[j]) for i in order for j in order if shuffled[i] == shuffled[j]}


@settings(max_examples=50, deadline=None)
@given(st.lists(PHRASES | SLICES, max_size=20), st.integers(1, 40))
def test_groups_are_the_same_when_work_is_cut_into_small_chunks(texts, chunk):
    in_chunks = near_duplicate_groups_in_numpy(texts, chunk=chunk)
    assert in_chunks.tolist() == near_duplicate_groups_in_numpy(texts).tolist()


@settings(max_examples=300, deadline=None)
@given(st.lists(PHRASES | ANY_TEXT | SLICES, max_size=12), st.sampled_from([0.3, 0.5, 0.8, 0.9, 1.0]))
def test_groups_in_numpy_are_those_of_comparing_all_pairs(texts, threshold):
    assert near_duplicate_groups_in_numpy(texts, threshold=threshold).tolist() == brute_force(
        texts, threshold
    )


@pytest.mark.skipif(not is_compiled(), reason="installed without Rust: nothing is compiled")
@pytest.mark.parametrize("n_templates", [1, 40])
def test_many_texts_have_the_groups_of_numpy(n_templates: int):
    # the single template has more texts than the limit of neighbours, so that the limit is the same, too
    rng = random.Random(n_templates)
    templates = [" ".join(rng.choices(LONG_WORDS, k=30)) for _ in range(n_templates)]
    texts = []
    for _ in range(2_500):
        words = rng.choice(templates).split()
        for _ in range(rng.randrange(6)):
            words[rng.randrange(len(words))] = rng.choice(LONG_WORDS)
        texts.append(" ".join(words))
    groups = near_duplicate_groups(texts)
    assert groups.tolist() == near_duplicate_groups_in_numpy(texts).tolist()
    assert 1 < groups.max() < 2_499


@given(st.text(max_size=40) | st.text("aÉ1２3_–“ \u0301\u200bяΣ\u2019", max_size=40))
@example("ΑΣ\u2019Α")  # a capital sigma is σ before an apostrophe and a letter, ς at the end of a word
def test_the_form_of_any_text_is_made_by_the_same_rules(text):
    plain = canonical(text)
    expected = re.sub(r"[\W_]+", "", re.sub(r"\d+", "0", decompose(plain).lower())) or plain
    assert near_duplicate_form(text) == expected


@pytest.mark.parametrize(
    ("one", "other", "threshold", "groups"),
    [
        ("abcdefghi", "abcdefgh", 0.8, 1),  # 4 of 5
        ("abcdefgh", "abcdefg", 0.8, 2),  # 3 of 4
        ("abcdefghijklm", "bcdefghijklmn", 0.8, 1),  # 8 of 10, one lost at either end
        ("abcdefghijkl", "bcdefghijklm", 0.8, 2),  # 7 of 9
        ("abcde", "abcdef", 0.5, 1),
        ("abcde", "abcdef", 0.51, 2),
        ("abcd", "abcd", 1.0, 1),
        ("abcd", "abc", 0.1, 2),  # shorter than a 5-gram: only the whole text counts
    ],
)
def test_texts_are_twins_from_the_threshold_on(one, other, threshold, groups):
    assert near_duplicate_groups([one, other, "something else"], threshold=threshold).max() == groups


def test_groups_are_none_when_there_are_no_texts():
    assert near_duplicate_groups([]).tolist() == []


def test_family_template_group_larger_than_comparisons_allow():
    middles = [f"{a}{b}{c}" for a in "abcdefghijklmnop" for b in "qrstuvwxyz" for c in "abcdefghijklmnop"]
    texts = [f"Your parcel is waiting at the depot since Monday, ask for {m} at the door" for m in middles]
    assert near_duplicate_groups(texts).max() == 0


def test_progress_ends_complete_when_a_search_is_done():
    calls: list[tuple[int, int]] = []
    texts = ["one text about a cat", "one text about a cat and a dog", "another"]
    near_duplicate_groups(texts, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] > 0


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("WIN £1,000 now!!", "win00now"),
        ("call 0800-555 1234", "call000"),
        ("Café  olé", "cafeole"),
        ("déjà", "deja"),
        ("Привет, мир", "приветмир"),
        ("u\u200b_r  :)", "ur"),
        (":)", ":)"),
        ("  ", ""),
    ],
)
def test_form_keeps_what_twins_have_in_common_when_text_compared(text, form):
    assert near_duplicate_form(text) == form


def test_twin_share_counts_test_texts_known_training_parts_given():
    groups, labels = np.array([0, 0, 1, 2, 2, 3]), ["spam", "spam", "ham", "ham", "ham", "spam"]
    share = known_share(groups, labels, train=np.array([0, 2, 3]), test=np.array([1, 4, 5]))
    assert share.overall == pytest.approx(2 / 3)
    assert share.by_label == {"ham": 1.0, "spam": 0.5}


def test_twin_share_is_zero_when_there_is_no_test_part():
    share = known_share(np.array([0]), ["ham"], train=np.array([0]), test=np.zeros(0, int))
    assert (share.overall, share.by_label) == (0.0, {})


def test_groups_mixed_file_those_measured_before_shared_data(shared_data):
    with open(shared_data / "spam-dataset.csv", encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    groups = near_duplicate_groups(texts)
    assert groups.max() + 1 == 6624
    without_letters = {text for text in map(near_duplicate_form, texts) if not any(map(str.isalnum, text))}
    forms = set(map(near_duplicate_form, texts)) - without_letters
    assert len(forms) + 1 == 6755, "the measured figure counts all texts without letters as one"
