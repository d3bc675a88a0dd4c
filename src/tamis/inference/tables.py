"""Predictions for columns of Arrow: one array operation per block of texts, no object per row.

Handles Arrow arrays; independent of files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tamis.errors import InputError, MissingExtraError
from tamis.models.scorer import Scores

if TYPE_CHECKING:
    from tamis.inference.classifier import Classifier

# as in `classifier.py`: the arrays of a batch have some hundred numbers per text
_BATCH_TEXTS = 1024
# the native library scores so many in one call, outside the interpreter's lock
_ARRAY_TEXTS = 8 * 1024
_TOP_TOKENS = 5
SCORE_PREFIX = "score_"


def score_table(classifier: Classifier, table: Any, text_column: str, *, scores: bool, explain: bool) -> Any:
    """Return an Arrow table with the predictions for `text_column` appended; see `Classifier.score_table`."""
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise MissingExtraError("scoring an Arrow table", "batch") from None
    if not isinstance(table, pyarrow.Table):
        table = pyarrow.table(table)
    if text_column not in table.column_names:
        problem = f"the table has no column {text_column!r}; it has {', '.join(table.column_names)}"
        raise InputError("unknown_column", problem, field="text_column")
    texts = table.column(text_column)
    # views have other buffers than `_text_buffers` reads
    if pyarrow.types.is_string_view(texts.type):
        texts = texts.cast(pyarrow.large_string())
    texts = texts.combine_chunks()
    found = prediction_arrays(classifier, texts, scores=scores, explain=explain)
    for name, array in found.items():
        table = table.append_column(free_name(name, table.column_names), array)
    return table


def free_name(name: str, taken: Sequence[str]) -> str:
    """Return the name of a prediction column beside those of the input, which keep theirs."""
    while name in taken:
        name = f"predicted_{name}"
    return name


def prediction_names(labels: Sequence[str], *, scores: bool, explain: bool) -> list[str]:
    """Return the names of the columns that `prediction_arrays` makes, in order."""
    each = [f"{SCORE_PREFIX}{label}" for label in labels] if scores else []
    return ["label", "decision", "score", *each, *(["explanation"] if explain else [])]


def prediction_arrays(classifier: Classifier, texts: Any, *, scores: bool, explain: bool) -> dict[str, Any]:
    """Return the columns of predictions for an Arrow string array, by name; null where a text is null."""
    import pyarrow

    # a null is scored as an empty text and masked afterwards, so all arrays keep their length
    is_null = texts.is_null().to_numpy(zero_copy_only=False) if texts.null_count else None
    probabilities = text_probabilities(classifier, texts)
    top, decided = classifier.decide(probabilities)
    labels = pyarrow.array(classifier.labels, pyarrow.string())
    best = probabilities[np.arange(len(top)), top]
    arrays = {
        "label": labels.take(pyarrow.array(top, mask=is_null)),
        "decision": labels.take(pyarrow.array(decided, mask=is_null)),
        "score": pyarrow.array(best, mask=is_null),
    }
    if scores:
        for column, label in enumerate(classifier.labels):
            values = np.ascontiguousarray(probabilities[:, column])
            arrays[f"{SCORE_PREFIX}{label}"] = pyarrow.array(values, mask=is_null)
    if explain:
        found = [None if text is None else top_tokens(classifier, text) for text in texts.to_pylist()]
        arrays["explanation"] = pyarrow.array(found, pyarrow.string())
    return arrays


def text_probabilities(classifier: Classifier, texts: Any) -> Scores:
    """Return [texts, classes] probabilities for an Arrow string array; a null counts as an empty text."""
    found = np.empty((len(texts), len(classifier.labels)))
    data, offsets = _text_buffers(texts)
    for start in range(0, len(texts), _ARRAY_TEXTS):
        rows = slice(start, min(start + _ARRAY_TEXTS, len(texts)))
        scored = classifier.score_utf8(data, offsets[rows.start : rows.stop + 1])
        if scored is None:
            found[rows] = _score_strings(classifier, texts.slice(start, _ARRAY_TEXTS))
            continue
        found[rows], others = scored
        if others.any():
            # texts that the native library leaves to Python
            indices = start + np.flatnonzero(others)
            found[indices] = _score_strings(classifier, texts.take(indices))
    return found


def _text_buffers(texts: Any) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return the bytes of an Arrow string array, not copied, and [texts + 1] offsets into them."""
    import pyarrow

    _, offsets, data = texts.buffers()
    # the offsets of Arrow's `string` have 32 bits, those of `large_string` 64
    width = np.int64 if pyarrow.types.is_large_string(texts.type) else np.int32
    if not len(texts) or data is None:
        return np.zeros(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    own = np.frombuffer(offsets, width)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data, np.uint8), own.astype(np.int64)


def _score_strings(classifier: Classifier, texts: Any) -> Scores:
    found = np.empty((len(texts), len(classifier.labels)))
    for start in range(0, len(texts), _BATCH_TEXTS):
        batch = [classifier.form(text or "") for text in texts.slice(start, _BATCH_TEXTS).to_pylist()]
        found[start : start + len(batch)] = classifier.score_canonical(batch)
    return found


def top_tokens(classifier: Classifier, text: str) -> str:
    """Return the tokens that contribute most to the text's label, as a JSON list of [token, contribution]."""
    tokens = sorted(classifier.explain(text).tokens, key=lambda token: -abs(token.contribution))
    top = [[token.text, round(token.contribution, 4)] for token in tokens[:_TOP_TOKENS]]
    return json.dumps(top, ensure_ascii=False)
