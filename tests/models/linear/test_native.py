"""The compiled library answers as numpy does, to the last bit, whatever the texts and the settings."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import ngrams, train
from tamis.models.linear.features import FeatureSettings, count_features
from tamis.models.linear.native import native_counter
from tamis.models.linear.weights import LinearWeights
from tamis.models.scorer import softmax
from tamis.native import address_of, check, is_compiled, native_library
from tamis.normalization import canonical
from tamis.training.fit import TrainSettings
from tamis.training.trainers.linear.trainer import LinearTrainer
from tamis.types import Dataset
from tests.support.samples import messages, write_csv

pytestmark = pytest.mark.skipif(not is_compiled(), reason="installed without Rust: nothing is compiled")

ROOT = Path(__file__).parents[3]
_LOAD = """
import sys
from tamis import Classifier
print(Classifier.load(sys.argv[1]).probabilities(["win"]).shape)
"""

SPACES = " \t\n\u00a0\u2003"
WORDS = "aAbBßİıéÉ012٣_-!?☃\u0301𝒳🎁中文かナー々"
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=60),
        st.text(st.sampled_from(SPACES + WORDS), max_size=60),
        st.text(st.characters(codec=None), max_size=20),  # lone surrogates too
        st.text(st.sampled_from("aA1!"), max_size=8).map(lambda part: part * 5),  # long runs
    ),
    max_size=6,
)
SETTINGS = [
    {},
    {"word_pairs": False},
    {"shapes": False},
    {"ngram_min": 3, "ngram_max": 3},
    {"ngram_max": 12, "bits": 24},
    {"bits": 8, "min_documents": 1},
    {"phrases": True},
    {"format": 1, "bits": 20, "phrases": True},
    {"keep": 1.0, "feature_weights": "none"},
]


@pytest.fixture(scope="module", params=SETTINGS, ids=str)
def weights(request: pytest.FixtureRequest) -> LinearWeights:
    data = messages(120)
    return LinearTrainer(**request.param).fit(data.texts, data.labels).weights_


@pytest.fixture(scope="module")
def three_columns() -> LinearWeights:
    data = messages(150, labels=("ham", "spam", "question"))
    return LinearTrainer().fit(data.texts, data.labels).weights_


def native_margins(weights: LinearWeights, texts: list[str]) -> np.ndarray:
    assert weights.native is not None
    return weights.native.margins(texts)


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_margins_are_the_same_bits_as_in_numpy(weights: LinearWeights, texts: list[str]):
    assert np.array_equal(native_margins(weights, texts), weights.margins(texts))


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_margins_are_the_same_bits_when_there_are_three_columns(
    three_columns: LinearWeights, texts: list[str]
):
    assert np.array_equal(native_margins(three_columns, texts), three_columns.margins(texts))


def test_margins_of_learned_texts_are_the_same_bits(weights: LinearWeights):
    texts = [*messages(120).texts, *messages(200, seed=8).texts, "x" * 100_000]
    assert np.array_equal(native_margins(weights, texts), weights.margins(texts))


def test_counts_beyond_the_largest_are_counted_as_it(three_columns: LinearWeights):
    text = "win " * 3_000
    assert np.array_equal(native_margins(three_columns, [text]), three_columns.margins([text]))


def test_threads_get_their_own_answers(three_columns: LinearWeights):
    batches = [list(messages(80, seed=seed).texts) for seed in range(40)]
    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(lambda texts: native_margins(three_columns, texts), batches)]
    for texts, margins in zip(batches, found, strict=True):
        assert np.array_equal(margins, three_columns.margins(texts))


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_counts_are_those_of_numpy(weights: LinearWeights, texts: list[str]):
    counter = native_counter(weights.settings)
    assert counter is not None
    for some in (texts, [*texts, "win " * 3_000, "", *messages(40).texts]):
        found, expected = counter(some), count_features(some, weights.settings)
        assert found.n_texts == expected.n_texts
        for name in ("texts", "features", "counts"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("labels", [("ham", "spam"), ("ham", "spam", "question")])
def test_probabilities_are_the_softmax_of_the_logits(labels: tuple[str, ...]):
    data = messages(150, labels=labels)
    weights = LinearTrainer().fit(data.texts, data.labels).weights_
    assert weights.native is not None
    texts = [*messages(90, seed=3).texts, "", "win " * 3_000]
    found, expected = weights.native.probabilities(texts), softmax(weights.logits(texts))
    assert np.abs(found - expected).max() <= 1e-15
    for text, row in zip(texts, found, strict=True):
        assert np.array_equal(weights.native.probabilities([text])[0], row)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a limit of the address space")
def test_native_functions_report_a_lack_of_memory():
    # all memory from mmap, in one arena: what malloc has kept back would hide the limit
    arena = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.out_of_memory"],
        env={**os.environ, **arena},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    found = json.loads(run.stdout)
    assert set(found) == {
        "new_model",
        "probabilities",
        "count",
        "feature_weights",
        "solve",
        "near_duplicates",
    }
    for failed, right, wrong in found.values():
        assert failed and right and not wrong


def test_native_panic_is_an_exception_of_the_call(capfd: pytest.CaptureFixture[str]):
    counter, library = native_counter(FeatureSettings()), native_library()
    assert counter is not None and library is not None
    codes, lengths, room = ngrams.encode_texts(["a word"]), np.array([8], np.uint64), np.zeros(1, np.uint64)
    too_small = [address_of(room)] * 3 + [0, ctypes.byref(ctypes.c_size_t())]
    status = library.count(counter._model, codes, address_of(lengths), 1, *too_small)
    with pytest.raises(RuntimeError, match="native library"):
        check(status)
    assert "panicked" in capfd.readouterr().err
    assert counter(["a word"]).counts.sum() > 0


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_utf8_texts_score_as_their_canonical_form(three_columns: LinearWeights, texts: list[str]):
    fixed = [
        " \t a\x1c b\n",
        "",
        "x" * 300,
        "Émile\u2003 жди 東京\u3000🙂",
        "한국어",
        "e\u0301",
        "ﬁ",
        "a\u200b",
        "가\u11a8",
    ]
    encoded = [text.encode("utf-8", "replace") for text in [*texts, *fixed]]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    assert three_columns.native is not None
    data = np.frombuffer(b"".join(encoded), np.uint8)
    found, others = three_columns.native.probabilities_of_utf8(data, offsets)
    assert others[-len(fixed) :].tolist() == [False] * 5 + [True] * 4
    scored = [canonical(text.decode()) for text, other in zip(encoded, others, strict=True) if not other]
    assert np.array_equal(found[~others], three_columns.native.probabilities(scored))


def test_character_tables_agree_with_the_methods_of_str():
    classes, lower = ngrams.character_tables()
    characters = list(map(chr, range(0x10000)))
    for number, is_so in (
        (ngrams.SPACE, str.isspace),
        (ngrams.LOWER, str.islower),
        (ngrams.UPPER, str.isupper),
    ):
        assert (classes == number).tolist() == list(map(is_so, characters))
    assert (classes == ngrams.DIGIT).tolist() == [c.isdigit() for c in characters]
    for code, character in enumerate(characters):
        assert lower[code] == (ord(character.lower()) if len(character.lower()) == 1 else code)


def test_model_passes_its_self_test_without_the_library(tmp_path: Path):
    """From eight labels on, numpy adds up probabilities in another order: the last digit differs."""
    package = tmp_path / "without" / "tamis"
    package.mkdir(parents=True)
    for part in (ROOT / "src" / "tamis").iterdir():
        if part.name != "native_library.so":
            (package / part.name).symlink_to(part)
    labels = [f"label {number}" for number in range(12)]
    texts = messages(360).texts
    rows = Dataset(texts, [labels[number % 12] for number in range(360)], [*range(360)])
    settings = TrainSettings(folds=2, overrides={"bits": "12"})
    path = train(write_csv(rows, tmp_path / "data.csv"), tmp_path / "topics", settings=settings).path
    environ = os.environ | {"PYTHONPATH": str(package.parent)}
    ran = subprocess.run(
        [sys.executable, "-c", _LOAD, str(path)], env=environ, capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr) == ("(1, 12)\n", "")
