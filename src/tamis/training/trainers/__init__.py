"""Trainers: they learn from texts and export the files that a scorer loads.

`TRAINERS` maps a model's name on the command line to its class's import path, so that naming a model
imports nothing of it: Keras and JAX take a second.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

import msgspec

from tamis.errors import MissingExtraError, TrainingError
from tamis.training.trainers.base import Trainer

TRAINERS = {
    "linear": "tamis.training.trainers.linear.trainer:LinearTrainer",
    "lstm": "tamis.training.trainers.lstm.trainer:LstmTrainer",
}

_EXTRAS = {"linear": "train", "lstm": "lstm"}
"""The optional part of Tamis that each model needs to learn."""


def _parsed(settings: str) -> dict[str, str]:
    return {name: value for name, _, value in (one.partition("=") for one in settings.split())}


# as text, so that a preset and `--set` go through the same conversion and checks
PRESETS: dict[str, dict[str, dict[str, str]]] = {
    "linear": {
        "classic": _parsed("format=1 bits=20 min_documents=2 feature_weights=none keep=1 c=4"),
    },
    "lstm": {
        "workshop": _parsed(
            "words=280 max_tokens=300 embedding=128 spatial_dropout=0.4 units=196 dropout=0.3 "
            "recurrent_dropout=0.3 batch=32 epochs=3 validation=0 average=0 class_weight=none"
        ),
    },
}
"""Hyper-parameters by name, as on the command line, for each model; the default preset is none of these.

`classic` is the recipe of Tamis 0.1, `workshop` the network of the workshop that Tamis continues.
"""


def preset(kind: str, name: str) -> Mapping[str, str]:
    """Return the hyper-parameters of a preset; raises TrainingError for an unknown one."""
    _check_known(kind)
    presets = PRESETS[kind]
    if name not in presets:
        raise TrainingError(f"{kind} has no preset {name!r}{_nearest(name, presets)}")
    return presets[name]


def make_trainer(kind: str, overrides: Mapping[str, str], *, seed: int) -> Trainer:
    """Make an untrained trainer of the kind in `TRAINERS`, some of its hyper-parameters set by name.

    Raises TrainingError for an unknown kind or name, with the nearest known one, and for a value of
    the wrong type, and MissingExtraError if a library that it needs is not installed.
    """
    _check_known(kind)
    factory = _factory(kind)
    # `_convert` refuses values of the wrong type, the constructor those out of range
    values = {key: _convert(factory, key, value) for key, value in overrides.items()}
    try:
        made = factory(**{"seed": seed, **values})
    except ValueError as wrong:
        raise TrainingError(f"--set: {wrong}") from None
    assert isinstance(made, Trainer)
    return made


def hyper_parameters(kind: str) -> dict[str, Any]:
    """Return the names of a model's hyper-parameters with their defaults."""
    parameters = inspect.signature(_factory(kind)).parameters
    return {key: parameter.default for key, parameter in parameters.items()}


def _check_known(kind: str) -> None:
    if kind not in TRAINERS:
        raise TrainingError(f"no model is called {kind!r}{_nearest(kind, TRAINERS)}")


def _factory(kind: str) -> Any:
    module, _, name = TRAINERS[kind].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as missing:
        if (missing.name or "tamis").split(".")[0] == "tamis":
            raise  # a damaged installation of Tamis, which no extra would repair
        raise MissingExtraError(f"training a model of kind {kind}", _EXTRAS[kind]) from None


def _convert(factory: type[Trainer], key: str, value: str) -> Any:
    # the constructor's types are the only list of settings: there is no second one to keep in step
    types = get_type_hints(factory.__init__)
    types.pop("return", None)
    if key not in types:
        raise TrainingError(f"--set {key}: no such setting{_nearest(key, types)}")
    try:
        # not strict: a setting from the command line is text, and "0.5" must become a number
        return msgspec.convert(value, types[key], strict=False)
    except msgspec.ValidationError as wrong:
        raise TrainingError(f"--set {key}={value}: {wrong}") from None


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there are {', '.join(known)}" if known else ""
