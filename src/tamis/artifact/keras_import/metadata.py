"""The metadata file beside an old Keras network: its labels, and how texts become its input.

Knows JSON; does not know networks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.artifact.onnx_export.layers import Side
from tamis.errors import ArtifactError
from tamis.normalization import AS_IT_IS, TEXT_FORMS

_MAX_LABELS = 10_000
_SIDES = ("pre", "post")
_UNUSED = {"label_legend", "max_words"}  # the labels the other way round, and what the tokenizer says too
_USED = {"label_legend_inverted", "max_seq_length", "text_form", "padding", "truncating"}


@dataclass(frozen=True)
class Metadata:
    """What the file says, with the defaults of Keras's `pad_sequences`.

    labels:     in the order of the network's outputs
    max_tokens: steps of the network's input
    text_form:  the form of texts; old metadata name none, their texts were taken as they came
    padding:    the side of a text on which zeros stand
    truncating: the side of a text that is cut off if it is too long
    unknown:    further keys, whose meaning is not known
    """

    labels: tuple[str, ...]
    max_tokens: int
    text_form: str = AS_IT_IS
    padding: Side = "pre"
    truncating: Side = "pre"
    unknown: tuple[str, ...] = ()


def read_metadata(file: Path) -> Metadata:
    """Read the file; raises ArtifactError that names the key that is wrong."""
    try:
        contents = json.loads(file.read_bytes())
        legend, max_tokens = contents["label_legend_inverted"], contents["max_seq_length"]
        numbered = {int(number): label for number, label in legend.items()}
        further = {"text_form": AS_IT_IS, "padding": "pre", "truncating": "pre"} | contents
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as wrong:
        raise ArtifactError(f"{file}: this is not the metadata of such a model ({wrong!r:.200})") from None
    if type(max_tokens) is not int:
        raise ArtifactError(f"{file}: max_seq_length must be a number of words")
    unknown = tuple(sorted(contents.keys() - _USED - _UNUSED))
    form = _one_of(file, further, "text_form", tuple(TEXT_FORMS))
    padding, truncating = (_one_of(file, further, name, _SIDES) for name in ("padding", "truncating"))
    return Metadata(_labels(file, numbered), max_tokens, form, padding, truncating, unknown)


def _labels(file: Path, numbered: dict[int, Any]) -> tuple[str, ...]:
    labels = tuple(numbered[number] for number in sorted(numbered))
    if not 2 <= len(labels) <= _MAX_LABELS or sorted(numbered) != list(range(len(labels))):
        raise ArtifactError(f"{file}: label_legend_inverted must number the labels from 0")
    if not all(map(_is_name, labels)) or len(set(labels)) != len(labels):
        raise ArtifactError(f"{file}: label_legend_inverted must hold different names")
    return labels


def _one_of(file: Path, contents: dict[str, Any], name: str, known: tuple[str, ...]) -> Any:
    if (value := contents[name]) not in known:
        raise ArtifactError(f"{file}: {name} is {value!r:.60}, none of {', '.join(known)}")
    return value


def _is_name(label: object) -> bool:
    """Return whether a label is a text that can be written down: no half of a surrogate pair."""
    return isinstance(label, str) and not any("\ud800" <= character <= "\udfff" for character in label)
