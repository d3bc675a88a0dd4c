"""Turns a folder with the old three files into the next version of a model.

Knows which files there are and what the manifest says; the reading and the building are next door.
"""

from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tamis.artifact.keras_import.extract import extract
from tamis.artifact.keras_import.metadata import Metadata, read_metadata
from tamis.artifact.keras_import.network import network_of
from tamis.artifact.layout import decode_json
from tamis.artifact.manifest import DataFacts, Manifest
from tamis.artifact.onnx_export.layers import Dense, Network
from tamis.artifact.save import reserve_version
from tamis.errors import ArtifactError
from tamis.models.network.tokenizer import Tokenizer
from tamis.types import Notice, no_notice

_LARGEST_FILE_BYTES = 2 * 1024**3
_LARGEST_JSON_BYTES = 128 * 1024**2
_PATTERNS = {"network": "*.h5", "tokenizer": "*_tokenizer.json", "metadata": "*_metadata.json"}


def import_keras(
    folder: str | os.PathLike[str], output: str | os.PathLike[str], *, say: Notice = no_notice
) -> Path:
    """Write the model in `folder` as the next version of the model folder `output`; return its path.

    The answers are those of Keras, texts taken as they come. `say` is called with what was ignored,
    one line at a time. Raises ArtifactError that says what is missing, broken or not supported, and
    MissingExtraError if h5py or onnx is not installed.
    """
    from tamis.artifact.onnx_export.build import build_onnx, describe_input

    files = {role: _find(Path(folder), pattern, role) for role, pattern in _PATTERNS.items()}
    tokenizer, metadata = _tokenizer(files["tokenizer"]), read_metadata(files["metadata"])
    if metadata.unknown:
        say(f"{files['metadata']}: unknown keys ignored: {', '.join(metadata.unknown)}")
    extracted = extract(files["network"])
    try:
        network = network_of(extracted, max_tokens=metadata.max_tokens, padding=metadata.padding)
        _check_fit(network, tokenizer, metadata.labels)
    except ArtifactError as wrong:
        raise ArtifactError(f"{files['network']}: {wrong}") from None
    config = f"{json.dumps(extracted.config)}\n".encode()
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
    most = _LARGEST_FILE_BYTES if role == "network" else _LARGEST_JSON_BYTES
    if found[0].stat().st_size > most:
        raise ArtifactError(f"{found[0]} is larger than the {most:,} bytes that are read")
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
        raise ArtifactError(f"it tells {outputs} classes apart, but the metadata names {len(labels)} labels")
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
        data=DataFacts("", "unknown", 0.0, 0, {}, 0, 0, {}),
        metrics={},
        libraries={name: version(name) for name in ("numpy", "onnx")},
    )
