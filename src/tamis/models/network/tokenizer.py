"""Texts to numbered words, by the rules of Keras's classic `Tokenizer`, and its JSON form.

The same code in training and in serving, padding included. Independent of labels and networks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from tamis.errors import ArtifactError

# Keras's own default, so that a tokenizer means the same in either library; the apostrophe is no separator
FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'

Sequences = list[npt.NDArray[np.int32]]
"""[texts] of [words]: the numbers of each text's known words, in order; 0 is never one of them."""


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary: the most frequent words, numbered from 1 by how often they are used.

    num_words:    words with this number or a higher one are unknown; None knows all
    word_counts:  how often each word was seen, in the order of first appearance
    word_docs:    in how many texts each word was seen
    oov_token:    the token of every unknown word; None drops unknown words
    """

    num_words: int | None
    word_index: Mapping[str, int]
    word_counts: Mapping[str, int]
    word_docs: Mapping[str, int]
    document_count: int
    filters: str = FILTERS
    lower: bool = True
    split: str = " "
    oov_token: str | None = None

    @classmethod
    def fit(cls, texts: Sequence[str], *, num_words: int) -> Self:
        """Number the words of `texts`, equally frequent ones by first appearance.

        Words that get no number below `num_words` are not kept: they cannot change a prediction, and
        rare words are often names and telephone numbers.
        """
        splitter = cls(num_words, {}, {}, {}, len(texts))  # has the defaults that divide texts into words
        counts: Counter[str] = Counter()
        documents: Counter[str] = Counter()
        for text in texts:
            words = splitter.words(text)
            counts.update(words)
            documents.update(set(words))
        # one less than `num_words`, because 0 is padding; equal counts stay in order of first appearance
        kept = [word for word, _ in counts.most_common(num_words - 1)]
        index = {word: number for number, word in enumerate(kept, 1)}
        return cls(
            num_words,
            index,
            {word: count for word, count in counts.items() if word in index},
            {word: documents[word] for word in counts if word in index},
            len(texts),
        )

    def words(self, text: str) -> list[str]:
        """Return the words of a text, known or not."""
        text = text.lower() if self.lower else text
        # two separators in a row leave an empty word
        return [word for word in text.translate(self._separators).split(self.split) if word]

    def unknown_shares(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return [texts] the share of each text's words that the vocabulary lacks."""
        known = self._known
        all_words = (self.words(text) for text in texts)
        shares = [sum(word not in known for word in words) / max(1, len(words)) for words in all_words]
        return np.array(shares, np.float64)

    def sequences(
        self, texts: Iterable[str], *, max_tokens: int, truncating: Literal["pre", "post"] = "pre"
    ) -> Sequences:
        """Return the numbers of each text's words, the last `max_tokens` if there are more.

        With `truncating` "post", the end of a text is cut off, and the first `max_tokens` stay.
        """
        kept = slice(-max_tokens, None) if truncating == "pre" else slice(max_tokens)
        known, unknown = self._known, self._unknown
        found = ([known.get(word, unknown) for word in self.words(text)] for text in texts)
        return [np.array([n for n in numbers if n][kept], np.int32) for numbers in found]

    @property
    def largest_number(self) -> int:
        """The largest number of a known word, 0 if there is none."""
        return max(self._known.values(), default=0)

    def to_json(self) -> bytes:
        """Return Keras's own JSON form, which its `tokenizer_from_json` reads."""
        index = self.word_index
        # Keras expects each mapping as a string of JSON within the JSON
        maps = {
            "word_counts": self.word_counts,
            "word_docs": self.word_docs,
            "index_docs": {index[word]: count for word, count in self.word_docs.items() if word in index},
            "word_index": index,
            "index_word": {number: word for word, number in index.items()},
        }
        config = {
            "num_words": self.num_words,
            "filters": self.filters,
            "lower": self.lower,
            "split": self.split,
            "char_level": False,
            "oov_token": self.oov_token,
            "document_count": self.document_count,
            **{name: json.dumps(values) for name, values in maps.items()},
        }
        return json.dumps({"class_name": "Tokenizer", "config": config}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read Keras's JSON form; raises ArtifactError for what cannot be such a tokenizer."""
        try:
            config = json.loads(data)["config"]
            if config.get("char_level"):
                raise ArtifactError("the tokenizer splits into characters, which is not supported")
            return cls(
                num_words=None if config["num_words"] is None else _number(config["num_words"], 1),
                word_index=_counts(config["word_index"]),
                word_counts=_counts(config.get("word_counts", {})),
                word_docs=_counts(config.get("word_docs", {})),
                document_count=_number(config.get("document_count", 0), 0),
                filters=_text(config["filters"]),
                lower=bool(config["lower"]),
                split=_text(config["split"]) or " ",
                oov_token=None if config.get("oov_token") is None else _text(config["oov_token"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as wrong:
            raise ArtifactError(f"this is no tokenizer that Keras wrote ({wrong!r})") from None

    @cached_property
    def _separators(self) -> dict[int, str]:
        return {ord(character): self.split for character in self.filters}

    @cached_property
    def _known(self) -> dict[str, int]:
        # filtered once: Keras's files list every word they have seen, also those beyond `num_words`
        limit = self.num_words or max(self.word_index.values(), default=0) + 1
        return {word: number for word, number in self.word_index.items() if number < limit}

    @cached_property
    def _unknown(self) -> int:
        # 0 is dropped by `sequences`, as Keras drops unknown words without an `oov_token`
        return self._known.get(self.oov_token, 0) if self.oov_token is not None else 0


def _counts(value: Any) -> dict[str, int]:
    """Return a mapping from words to numbers, which Keras writes as JSON within JSON."""
    values = json.loads(value) if isinstance(value, str) else value
    return {word: _number(count, 1) for word, count in values.items()}


def _number(value: Any, minimum: int) -> int:
    # `type`, because JSON's true is an int to isinstance
    if type(value) is not int or value < minimum:
        raise ValueError(f"{value!r} is not a whole number of at least {minimum}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


Tokens = npt.NDArray[np.int32]
"""[texts, steps] numbers of words; 0 where there is none."""


def pad(sequences: Sequence[npt.NDArray[np.int32]], *, width: int, left: bool = False) -> Tokens:
    """Return [texts, width] numbers, zeros after each sequence, or before it with `left`."""
    tokens = np.zeros((len(sequences), width), np.int32)
    for row, sequence in zip(tokens, sequences, strict=True):
        if left:
            row[width - sequence.size :] = sequence
        else:
            row[: sequence.size] = sequence
    return tokens


def lengths_of(sequences: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.int32]:
    """Return [texts] the number of words in each."""
    return np.fromiter((sequence.size for sequence in sequences), np.int32, len(sequences))


def batches_of_like_length(
    lengths: npt.NDArray[np.int32], *, max_texts: int
) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the indices of at most `max_texts` texts each, shortest first, to keep padding low."""
    order = np.argsort(lengths, kind="stable")
    for start in range(0, order.size, max_texts):
        yield order[start : start + max_texts]
