"""Writes the three files of an old model as Keras 2 wrote them, small, and each way they can be bad."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tamis.models.network.tokenizer import Tokenizer

WORDS = ("call", "win", "now", "the", "a", "library", "prize", "see", "you")
MOST = 12

_ARRAYS = {
    "Embedding": ("embeddings",),
    "LSTM": ("lstm_cell/kernel", "lstm_cell/recurrent_kernel", "lstm_cell/bias"),
    "GRU": ("gru_cell/kernel", "gru_cell/recurrent_kernel", "gru_cell/bias"),
    "Conv1D": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}


@dataclass
class OldLayer:
    """A layer's class, its settings beyond the usual, and the shapes of its arrays."""

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    shapes: Sequence[tuple[int, ...]] = ()


def embedding(size: int = 4, **settings: Any) -> OldLayer:
    sizes = {"input_dim": len(WORDS) + 1, "output_dim": size, "mask_zero": False}
    return OldLayer("Embedding", {**sizes, **settings}, [(len(WORDS) + 1, size)])


def lstm(inputs: int = 4, units: int = 3, **settings: Any) -> OldLayer:
    usual = {"units": units, "activation": "tanh", "recurrent_activation": "sigmoid"}
    shapes = [(inputs, 4 * units), (units, 4 * units), (4 * units,)]
    return OldLayer("LSTM", {**usual, **settings}, shapes)


def gru(inputs: int = 4, units: int = 3, *, reset_after: bool = True, **settings: Any) -> OldLayer:
    usual = {
        "units": units,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "reset_after": reset_after,
    }
    bias = (2, 3 * units) if reset_after else (3 * units,)
    return OldLayer("GRU", {**usual, **settings}, [(inputs, 3 * units), (units, 3 * units), bias])


def conv(inputs: int = 4, filters: int = 5, size: int = 3, **settings: Any) -> OldLayer:
    usual = {"filters": filters, "kernel_size": [size], "strides": [1], "padding": "valid"}
    usual |= {"activation": "relu", "dilation_rate": [1], "data_format": "channels_last", "groups": 1}
    return OldLayer("Conv1D", {**usual, **settings}, [(size, inputs, filters), (filters,)])


def dense(inputs: int = 3, units: int = 2, activation: str = "softmax") -> OldLayer:
    return OldLayer("Dense", {"units": units, "activation": activation}, [(inputs, units), (units,)])


def write_old_model(
    folder: Path, layers: Sequence[OldLayer], *, labels: Sequence[str] = ("ham", "spam"), **metadata: Any
) -> Path:
    """Write the three files of a network with random weights; return the folder."""
    write_beside(folder, labels=labels, **metadata)
    rng = np.random.default_rng(4)
    with h5py.File(folder / "spam_model.h5", "w") as file:
        group = file.create_group("model_weights")
        names = [f"{layer.kind.lower()}_{i}" for i, layer in enumerate(layers)]
        group.attrs["layer_names"] = names
        config = [
            {"class_name": layer.kind, "config": {"name": name, **layer.settings}}
            for name, layer in zip(names, layers, strict=True)
        ]
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": config}})
        for name, layer in zip(names, layers, strict=True):
            _write_arrays(group.create_group(name), name, layer, rng)
    return folder


def write_beside(folder: Path, *, labels: Sequence[str] = ("ham", "spam"), **metadata: Any) -> Path:
    """Write tokenizer and metadata, with further keys of the latter; return where the network belongs."""
    folder.mkdir(parents=True, exist_ok=True)
    legend = {str(i): label for i, label in enumerate(labels)}
    usual = {"label_legend_inverted": legend, "max_seq_length": MOST, "max_words": len(WORDS) + 1}
    (folder / "spam_metadata.json").write_text(json.dumps({**usual, **metadata}))
    tokenizer = Tokenizer.fit([" ".join(WORDS)], num_words=len(WORDS) + 1)
    (folder / "spam_tokenizer.json").write_bytes(tokenizer.to_json())
    return folder / "spam_model.h5"


def arrays_of(folder: Path) -> list[np.ndarray]:
    """Return the arrays in the order in which Keras lists them."""
    with h5py.File(folder / "spam_model.h5") as file:
        group = file["model_weights"]
        return [
            group[layer][weight][()]
            for layer in group.attrs["layer_names"]
            for weight in group[layer].attrs["weight_names"]
        ]


def _write_arrays(group: h5py.Group, name: str, layer: OldLayer, rng: np.random.Generator) -> None:
    weights = [f"{name}/{array}:0" for array in _ARRAYS.get(layer.kind, ())[: len(layer.shapes)]]
    group.attrs["weight_names"] = weights
    for weight, shape in zip(weights, layer.shapes, strict=True):
        group.create_dataset(weight, data=rng.normal(0, 0.6, shape).astype(np.float32))
