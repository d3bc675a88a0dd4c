"""Words in place of n-gram shreds in the report's evidence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.training.report.evidence import find_evidence
from tamis.training.trainers.base import TopFeature

TEXTS = ["win a free camera"] * 3 + ["see you at the library"] * 3 + ["freedom"]


def features(*found: tuple[str, str, float]) -> list[TopFeature]:
    return [TopFeature(family, name, weight) for family, name, weight in found]


def test_evidence_ngrams_count_for_their_most_frequent_word():
    top = {
        "spam": features(
            ("n-grams", "fre", 0.5), ("words", "free", 0.4), ("n-grams", "ee ", 0.3), ("shapes", "xx dd", 0.6)
        )
    }
    (shown,), others = find_evidence(top, TEXTS, {"spam": 3})
    names = [(name, kind) for name, kind, _ in shown.top]
    assert names == [("free", "word"), ("xx dd", "shapes")]
    assert shown.top[0][2] == pytest.approx(1.2)
    assert shown.heaviest == pytest.approx(1.2)
    assert [name for name, _, _ in shown.features] == ["fre", "free", "ee␣", "xx dd"]
    assert others == ()


def test_evidence_keeps_an_ngram_that_is_in_no_word():
    (shown,), _ = find_evidence({"spam": features(("n-grams", "qzx", 0.5))}, TEXTS, {"spam": 3})
    assert shown.top == (("qzx", "n-grams", 0.5),)


def test_evidence_in_a_script_without_blanks_stays_ngrams():
    texts = ["这家酒店的服务非常好我们下次还会再来住的", "房间很脏而且空调坏了没有人来修理非常失望"]
    (shown,), _ = find_evidence({"好": features(("n-grams", "非常", 0.5))}, texts, {"好": 1})
    assert shown.top == (("非常", "n-grams", 0.5),)
    assert shown.features == (), "they are shown already"


def test_evidence_of_many_labels_is_tables_for_the_largest_only():
    top = {f"label {n}": features(("words", "free", 1.0), ("words", "win", 0.5)) for n in range(300)}
    shown, others = find_evidence(top, TEXTS, {f"label {n}": n for n in range(300)})
    assert [one.label for one in shown] == [f"label {n}" for n in range(288, 300)]
    assert len(others) == 288
    assert others[0] == ("label 0", ("free", "win"))


def test_evidence_of_a_model_without_features_is_none():
    assert find_evidence({"ham": [], "spam": []}, TEXTS, {}) == ((), ())


@given(
    st.lists(st.text(alphabet="abc ", min_size=1, max_size=12), min_size=1, max_size=8),
    st.lists(st.tuples(st.text(alphabet="abc ", min_size=1, max_size=4), st.floats(0.1, 2)), max_size=8),
)
@settings(max_examples=80, deadline=None)
def test_evidence_loses_no_weight(texts: list[str], found: list[tuple[str, float]]):
    top = {"a": features(*(("n-grams", name, weight) for name, weight in found))}
    shown, _ = find_evidence(top, texts, {"a": 1})
    total = sum(weight for one in shown for _, _, weight in one.top)
    assert total == pytest.approx(sum(weight for _, weight in found))
