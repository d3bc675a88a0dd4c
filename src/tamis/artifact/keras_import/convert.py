"""Turns a folder with the old three files into the next version of a model.

Finds the files and writes the manifest; `extract` reads, `network` builds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tamis.artifact.keras_import.extract import extract
from tamis.artifact.keras_import.network import network_of
from tamis.artifact.manifest import DataFacts, Manifest, decode_json
from tamis.artifact.onnx_export.layers import Dense, Network, Side
from tamis.artifact.version_folder import reserve_version
from tamis.errors import ArtifactError
from tamis.models.network.tokenizer import Tokenizer
from tamis.normalization import AS_IT_IS, TEXT_FORMS
from tamis.types import Notice, no_notice

_MAX_FILE_BYTES = 2 * 1024**3
_MAX_JSON_BYTES = 128 * 1024**2
_PATTERNS = {"network": "*.h5", "tokenizer": "*_tokenizer.json", "metadata": "*_metadata.json"}
_MAX_LABELS = 10_000
_SURROGATE = re.compile("[\ud800-\udfff]")
_SIDES = ("pre", "post")
_UNUSED = {"label_legend", "max_words"}  # the labels the other way round, and what is in the tokenizer, too
_USED = {"label_legend_inverted", "max_seq_length", "text_form", "padding", "truncating"}


def import_keras(
    folder: str | os.PathLike[str], output: str | os.PathLike[str], *, log: Notice = no_notice
) -> Path:
    """Write the model in `folder` as the next version of the model folder `output`; return its path.

    Predictions are those of Keras on texts without normalisation. `log` is called with what was ignored,
    one line at a time. Raises ArtifactError that names what is missing, broken or not supported, and
    MissingExtraError if h5py or onnx is not installed.
    """
    from tamis.artifact.onnx_export.build import build_onnx, describe_input

    files = {role: _find(Path(folder), pattern, role) for role, pattern in _PATTERNS.items()}
    tokenizer, metadata = _tokenizer(files["tokenizer"]), read_metadata(files["metadata"])
    if metadata.unknown:
        log(f"{files['metadata']}: unknown keys ignored: {', '.join(metadata.unknown)}")
    extracted = extract(files["network"])
    try:
        network = network_of(extracted, max_tokens=metadata.max_tokens, padding=metadata.padding)
        _check_fit(network, tokenizer, metadata.labels)
    except ArtifactError as wrong:
        raise ArtifactError(f"{files['network']}: {wrong}") from None
    config = f"{json.dumps(extracted.config)}\n".encode()
    # now, and not at the first start of a service
    decode_json(config, dict[str, Any], f"{files['network']}: its configuration")  # as serving will
    described = describe_input(network)
    if metadata.truncating != "pre":
        described["truncating"] = metadata.truncating
    with reserve_version(Path(output)) as reservation:
        (reservation.folder / "model.onnx").write_bytes(build_onnx(network))
        (reservation.folder / "tokenizer.json").write_bytes(tokenizer.to_json())
        (reservation.folder / "network.json").write_bytes(config)
        return reservation.commit(_manifest(files, metadata, described))


def _find(folder: Path, pattern: str, role: str) -> Path:
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is no folder; give the one that holds the three files")
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ArtifactError(f"{folder}: one file {pattern} must hold the {role}; there are {len(found)}")
    if not found[0].is_file():
        raise ArtifactError(f"{found[0]} is no plain file")
    max_bytes = _MAX_FILE_BYTES if role == "network" else _MAX_JSON_BYTES
    if found[0].stat().st_size > max_bytes:
        raise ArtifactError(f"{found[0]} is larger than the {max_bytes:,} bytes that are read")
    return found[0]


def _tokenizer(file: Path) -> Tokenizer:
    data = file.read_bytes()
    try:
        # Keras's `to_json()` returns text, and some scripts wrote that text as JSON once more.
        return Tokenizer.from_json(json.loads(data) if data.lstrip()[:1] == b'"' else data)
    except (ArtifactError, ValueError) as wrong:
        raise ArtifactError(f"{file}: {wrong}") from None


def _check_fit(network: Network, tokenizer: Tokenizer, labels: tuple[str, ...]) -> None:
    last = network.layers[-1]
    outputs = max(2, last.bias.size) if isinstance(last, Dense) else 0
    if outputs != len(labels):
        raise ArtifactError(f"it has {outputs} outputs, but the metadata names {len(labels)} labels")
    rows = network.embedding.weights.shape[0]
    if tokenizer.largest_number >= rows:
        raise ArtifactError(
            f"its embedding has {rows} rows, but the tokenizer gives numbers up to {tokenizer.largest_number}"
        )


def _manifest(files: dict[str, Path], metadata: Metadata, described: dict[str, Any]) -> Manifest:
    digests = {role: hashlib.sha256(file.read_bytes()).hexdigest() for role, file in files.items()}
    return Manifest(
        kind="keras",
        labels=metadata.labels,
        text_form=metadata.text_form,
        model=described,
        training={"imported_from": {role: file.name for role, file in files.items()}, "sha256": digests},
        calibration={},
        # nothing is known about the training data of an imported model
        data=DataFacts("", "unknown", 0.0, 0, {}, 0, 0, {}),
        metrics={},
        libraries={name: version(name) for name in ("numpy", "onnx")},
    )


@dataclass(frozen=True)
class Metadata:
    """The contents of the file, with the defaults of Keras's `pad_sequences`.

    labels:     in the order of the network's outputs
    max_tokens: steps of the network's input
    text_form:  the form of texts; old metadata name none, their texts were taken as they came
    padding:    the side of a text on which zeros are
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
        # JSON has no numbers as keys
        numbered = {int(number): label for number, label in legend.items()}
        further = {"text_form": AS_IT_IS, "padding": "pre", "truncating": "pre"} | contents
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as wrong:
        raise ArtifactError(f"{file}: this is not the metadata of such a model ({wrong!r:.200})") from None
    # `type`, not `isinstance`: true is an int
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
    # an unpaired surrogate cannot be written into the manifest
    is_name = [isinstance(label, str) and not _SURROGATE.search(label) for label in labels]
    if not all(is_name) or len(set(labels)) != len(labels):
        raise ArtifactError(f"{file}: label_legend_inverted must hold different names")
    return labels


def _one_of(file: Path, contents: dict[str, Any], name: str, known: tuple[str, ...]) -> Any:
    if (value := contents[name]) not in known:
        raise ArtifactError(f"{file}: {name} is {value!r:.60}, none of {', '.join(known)}")
    return value
