"""Keras's classic rules, checked against Keras's own tokenizer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.errors import ArtifactError
from tamis.models.network.tokenizer import Tokenizer
from tamis.training.trainers.lstm.keras_backend import keras
from tests.support.samples import messages

TEXT = st.text(st.sampled_from("abAB éİß'-!?.\t\n\u00a0\ufeff"), max_size=24)


def numbers(tokenizer: Tokenizer, texts: list[str], *, max_tokens: int = 300) -> list[list[int]]:
    return [sequence.tolist() for sequence in tokenizer.sequences(texts, max_tokens=max_tokens)]


def of_keras(texts: list[str], num_words: int | None) -> object:
    tokenizer = keras.src.legacy.preprocessing.text.Tokenizer(num_words=num_words)
    tokenizer.fit_on_texts(texts)
    return tokenizer


def unpacked(data: bytes | str) -> dict[str, object]:
    """Return the fields, with the JSON within the JSON parsed as well: Keras writes it in any order."""
    fields = json.loads(data)["config"]
    return {name: json.loads(value) if str(value)[:1] == "{" else value for name, value in fields.items()}


@given(st.lists(TEXT, max_size=8), st.lists(TEXT, max_size=4), st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_numbers_are_those_of_keras(learned: list[str], asked: list[str], num_words: int):
    ours, theirs = Tokenizer.fit(learned, num_words=num_words), of_keras(learned, num_words)
    assert numbers(ours, learned + asked) == theirs.texts_to_sequences(learned + asked)


@given(st.lists(TEXT, max_size=8), st.lists(TEXT, max_size=4))
@settings(max_examples=50, deadline=None)
def test_keras_reads_what_we_write_and_we_read_what_keras_writes(learned: list[str], asked: list[str]):
    ours, theirs = Tokenizer.fit(learned, num_words=8), of_keras(learned, 8)
    read_by_keras = keras.src.legacy.preprocessing.text.tokenizer_from_json(ours.to_json().decode())
    assert read_by_keras.texts_to_sequences(asked) == numbers(ours, asked)
    assert numbers(Tokenizer.from_json(theirs.to_json().encode()), asked) == numbers(ours, asked)


def test_fields_are_named_as_keras_names_them():
    ours, theirs = Tokenizer.fit(["a b b"], num_words=9), of_keras(["a b b"], 9)
    assert unpacked(ours.to_json()) == unpacked(theirs.to_json())


def test_equally_frequent_words_are_numbered_by_first_appearance():
    assert Tokenizer.fit(["b a", "c a"], num_words=10).word_index == {"a": 1, "b": 2, "c": 3}


def test_words_beyond_the_vocabulary_are_forgotten():
    tokenizer = Tokenizer.fit(["call call 0123456789"], num_words=2)
    assert b"0123456789" not in tokenizer.to_json()
    assert tokenizer.document_count == 1


def test_the_last_words_are_kept_when_a_text_is_long():
    tokenizer = Tokenizer.fit(["a a a b b c"], num_words=10)
    assert numbers(tokenizer, ["a b c", "c", "", "?!"], max_tokens=2) == [[2, 3], [3], [], []]


def test_tokenizer_unknown_word_gets_the_oov_number():
    theirs = keras.src.legacy.preprocessing.text.Tokenizer(num_words=3, oov_token="<new>")
    theirs.fit_on_texts(["a a b c"])
    ours = Tokenizer.from_json(theirs.to_json().encode())
    assert numbers(ours, ["a b z"]) == theirs.texts_to_sequences(["a b z"]) == [[2, 1, 1]]


def test_json_is_the_same_bytes_when_it_is_written_twice():
    texts = list(messages(60).texts)
    assert Tokenizer.fit(texts, num_words=50).to_json() == Tokenizer.fit(texts, num_words=50).to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"char_level": True}, "characters"),
        ({"word_index": '{"a": 0}'}, "no tokenizer"),
        ({"word_index": '{"a": "1"}'}, "no tokenizer"),
        ({"word_index": "[1]"}, "no tokenizer"),
        ({"word_index": None}, "no tokenizer"),
        ({"filters": 3}, "no tokenizer"),
        ({"num_words": 2.5}, "no tokenizer"),
        ({"num_words": -1}, "no tokenizer"),
    ],
)
def test_a_broken_tokenizer_is_refused(change: dict[str, object], message: str):
    config = {**json.loads(Tokenizer.fit(["a"], num_words=3).to_json())["config"], **change}
    with pytest.raises(ArtifactError, match=message):
        Tokenizer.from_json(json.dumps({"config": config}).encode())


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b'{"config": 1}', b"[" * 100_000])
def test_bytes_that_are_no_tokenizer_are_refused(data: bytes):
    with pytest.raises(ArtifactError, match="no tokenizer"):
        Tokenizer.from_json(data)
