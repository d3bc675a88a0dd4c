"""The Keras network: its layers with their settings and seeds, and its files for users of Keras.

Files are reproducible: the same network gives the same bytes, though Keras itself writes the date.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.models.network.tokenizer import Tokenizer
from tamis.normalization import CANONICAL_FORM
from tamis.training.trainers.lstm.keras_backend import keras

_FIRST_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can name


@dataclass(frozen=True)
class NetworkShape:
    """The sizes and dropout rates of a network; `words` rows of the embedding include the one for 0."""

    words: int
    classes: int
    embedding: int = 128
    units: int = 196
    spatial_dropout: float = 0.4
    dropout: float = 0.3
    recurrent_dropout: float = 0.3
    mask: bool = True


def build_network(shape: NetworkShape, *, activation: str, seed: int) -> Any:
    """Return an untrained `keras.Sequential`, the same for the same seed; it learns with "linear" logits."""
    # Keras's default initializers, with a seed for each: their own seeds are random
    initial = keras.initializers
    embedding = keras.layers.Embedding(
        shape.words,
        shape.embedding,
        mask_zero=shape.mask,
        embeddings_initializer=initial.RandomUniform(seed=seed),
        name="embedding",
    )
    lstm = keras.layers.LSTM(
        shape.units,
        dropout=shape.dropout,
        recurrent_dropout=shape.recurrent_dropout,
        kernel_initializer=initial.GlorotUniform(seed=seed + 1),
        recurrent_initializer=initial.Orthogonal(seed=seed + 2),
        seed=seed + 3,
        name="lstm",
    )
    dense = keras.layers.Dense(
        shape.classes,
        activation=activation,
        kernel_initializer=initial.GlorotUniform(seed=seed + 5),
        name="dense",
    )
    tokens = keras.Input((None,), dtype="int32", name="tokens")  # texts of any length
    dropout = keras.layers.SpatialDropout1D(shape.spatial_dropout, seed=seed + 4, name="spatial_dropout")
    return keras.Sequential([tokens, embedding, dropout, lstm, dense], name="tamis_lstm")


def write_keras(network: Any, folder: Path) -> None:
    """Write `network.keras`, which `keras.saving.load_model` reads."""
    # copied member by member with a fixed date and order, so that the same network gives the same bytes
    with tempfile.TemporaryDirectory() as elsewhere:
        dated = Path(elsewhere) / "network.keras"
        network.save(dated)
        with zipfile.ZipFile(dated) as source, zipfile.ZipFile(folder / "network.keras", "w") as target:
            for name in sorted(source.namelist()):
                data = source.read(name)
                if name == "metadata.json":  # Keras writes the date into it
                    data = json.dumps({**json.loads(data), "date_saved": ""}).encode()
                if name == "config.json":
                    data = _numbered(data.decode()).encode()
                target.writestr(zipfile.ZipInfo(name, _FIRST_DATE), data)


def write_old_files(
    network: Any, folder: Path, *, tokenizer: Tokenizer, labels: Sequence[str], max_tokens: int
) -> None:
    """Write `keras_model.h5`, `keras_tokenizer.json` and `keras_metadata.json`.

    The metadata name the form in which the network expects texts: it learned them in that form.
    """
    with _without_advice():
        network.save(folder / "keras_model.h5")
    (folder / "keras_tokenizer.json").write_bytes(tokenizer.to_json())
    # the names that applications of the workshop read
    metadata = {
        "label_legend": {label: number for number, label in enumerate(labels)},
        "label_legend_inverted": {str(number): label for number, label in enumerate(labels)},
        "max_seq_length": max_tokens,
        "max_words": tokenizer.num_words,
        "text_form": CANONICAL_FORM,
    }
    (folder / "keras_metadata.json").write_text(json.dumps(metadata) + "\n", encoding="utf-8")


def _numbered(config: str) -> str:
    """Return a configuration whose object ids are 1, 2 …; Keras takes them from memory addresses."""
    numbers: dict[str, int] = {}
    return re.sub(
        r'("shared_object_id": )(\d+)',
        lambda found: f"{found[1]}{numbers.setdefault(found[2], len(numbers) + 1)}",
        config,
    )


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep Keras from logging that HDF5 is an old format: that is why it was asked for."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
