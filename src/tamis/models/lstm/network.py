"""The Keras network: which layers, with which settings and seeds.

Does not know texts, labels or how to learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tamis.models.lstm.keras_on_jax import keras


@dataclass(frozen=True)
class Shape:
    """The sizes and dropout rates of a network; `words` rows of the embedding include the one for 0."""

    words: int
    classes: int
    embedding: int = 128
    units: int = 196
    spatial_dropout: float = 0.4
    dropout: float = 0.3
    recurrent_dropout: float = 0.3
    mask: bool = True


def build_network(shape: Shape, *, activation: str, seed: int) -> Any:
    """Return an untrained `keras.Sequential`, the same for the same seed; it learns with "linear" logits."""
    initial = keras.initializers
    lstm = keras.layers.LSTM(
        shape.units,
        dropout=shape.dropout,
        recurrent_dropout=shape.recurrent_dropout,
        kernel_initializer=initial.GlorotUniform(seed=seed + 1),
        recurrent_initializer=initial.Orthogonal(seed=seed + 2),
        seed=seed + 3,
        name="lstm",
    )
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="tokens"),
            keras.layers.Embedding(
                shape.words,
                shape.embedding,
                mask_zero=shape.mask,
                embeddings_initializer=initial.RandomUniform(seed=seed),
                name="embedding",
            ),
            keras.layers.SpatialDropout1D(shape.spatial_dropout, seed=seed + 4, name="spatial_dropout"),
            lstm,
            keras.layers.Dense(
                shape.classes,
                activation=activation,
                kernel_initializer=initial.GlorotUniform(seed=seed + 5),
                name="dense",
            ),
        ],
        name="tamis_lstm",
    )
    return network
