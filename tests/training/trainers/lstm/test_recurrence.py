"""The recurrence is Keras's LSTM, its gradient the one that JAX finds for the same steps one by one."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tamis.models.network.tokenizer import pad
from tamis.training.trainers.lstm.keras_backend import keras
from tamis.training.trainers.lstm.network import NetworkShape, build_network
from tamis.training.trainers.lstm.recurrence import (
    History,
    Padded,
    Weights,
    empty_history,
    gradient,
    last_states,
    last_states_to_learn,
)
from tamis.training.trainers.lstm.train_step import Padding, _drawn_mask, predict

WORDS, EMBEDDING, UNITS, TEXTS = 9, 6, 5, 7
RNG = np.random.default_rng(7)


def sequences(*lengths: int) -> list[np.ndarray]:
    return [RNG.integers(1, WORDS, length).astype(np.int32) for length in lengths]


LENGTHS = (0, 1, 4, 5, 9, 14, 10)
SEQUENCES = sequences(*LENGTHS)
SHAPES = (WORDS, EMBEDDING), (EMBEDDING, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,)
OF_KERAS = [jnp.asarray(RNG.normal(0, 0.5, shape), jnp.float32) for shape in SHAPES]
WEIGHTS = Weights.from_keras(*OF_KERAS)
MASK = jnp.asarray(RNG.choice([0, 1.5], (4, TEXTS, EMBEDDING + UNITS)), jnp.float32)
NOTHING_DROPPED = jnp.ones_like(MASK)
SHAPE = NetworkShape(WORDS, 3, EMBEDDING, UNITS)


def room_for(texts: Padded, filling: float = 0) -> History:
    room = empty_history(len(texts.tokens), TEXTS, EMBEDDING, UNITS)
    return jax.tree.map(lambda part: part + filling, room)


def learn(
    texts: Padded, mask: jax.Array, by_states: jax.Array, filling: float = 0
) -> tuple[jax.Array, Weights]:
    """Return the last states and the gradient by the weights."""
    states, history = last_states_to_learn(WEIGHTS, mask, texts, room_for(texts, filling))
    return states, gradient(WEIGHTS, mask, texts, history, by_states)[0]


@pytest.fixture(params=[False, True], ids=["masked", "zeros are read"])
def texts(request: pytest.FixtureRequest) -> Padded:
    return Padding(15 if request.param else max(LENGTHS), left=request.param)(SEQUENCES)


def one_by_one(weights: list[jax.Array], mask: jax.Array, texts: Padded) -> jax.Array:
    """Take the steps as they stand in the books."""
    embedding, *others = weights
    kernels, recurrents, biases = (jnp.split(part, 4, axis=-1) for part in others)
    state = cell = jnp.zeros((TEXTS, UNITS))
    for tokens, real in zip(texts.tokens, texts.real, strict=True):
        given, known = (embedding[tokens] * mask[..., :EMBEDDING], state * mask[..., EMBEDDING:])
        i, f, g, o = (given[k] @ kernels[k] + known[k] @ recurrents[k] + biases[k] for k in range(4))
        new = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        state = jnp.where(real[:, None], jax.nn.sigmoid(o) * jnp.tanh(new), state)
        cell = jnp.where(real[:, None], new, cell)
    return state


def test_recurrence_states_and_gradients_equal_single_steps(texts: Padded):
    directions = jnp.asarray(RNG.normal(size=(TEXTS, UNITS)), jnp.float32)

    def plain(weights: list[jax.Array]) -> jax.Array:
        return (one_by_one(weights, MASK, texts) * directions).sum()

    states, gradients = learn(texts, MASK, directions)
    wanted = jax.grad(plain)(OF_KERAS)
    assert np.allclose(states, one_by_one(OF_KERAS, MASK, texts), atol=1e-5)
    assert all(float(abs(part).max()) > 0.01 for part in wanted), "each has something to say"
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(gradients.to_keras(), wanted, strict=True))


def test_what_was_left_in_the_room_changes_nothing(texts: Padded):
    ones = jnp.ones((TEXTS, UNITS))
    for clean, used in zip(learn(texts, MASK, ones)[1], learn(texts, MASK, ones, filling=3)[1], strict=True):
        assert np.array_equal(clean, used)


def test_a_batch_of_empty_texts_says_nothing():
    empty = Padding(12, left=False)([np.zeros(0, np.int32)] * TEXTS)
    states, gradients = learn(empty, MASK, jnp.ones((TEXTS, UNITS)), filling=3)
    assert int(empty.steps) == 0
    assert not any(np.any(part) for part in (states, *gradients))


def test_weights_go_to_keras_and_back():
    assert all(np.array_equal(a, b) for a, b in zip(WEIGHTS.to_keras(), OF_KERAS, strict=True))


@pytest.mark.parametrize("mask", [True, False], ids=["masked", "zeros are read"])
def test_recurrence_equals_keras_in_logits_and_learning(mask: bool):
    shape = replace(SHAPE, spatial_dropout=0, dropout=0, recurrent_dropout=0, mask=mask)
    network = build_network(shape, activation="linear", seed=1)
    weights = [variable.value for variable in network.trainable_variables]
    other = [variable.value for variable in network.non_trainable_variables]
    padding = Padding(15, left=not mask)
    tokens = pad(SEQUENCES, width=15, left=not mask)

    def logits_by_keras(weights: list[jax.Array]) -> jax.Array:
        return network.stateless_call(weights, other, tokens, training=True)[0]

    assert np.allclose(predict(weights, SEQUENCES, padding), logits_by_keras(weights), atol=1e-5)
    by_keras = jax.grad(lambda weights: logits_by_keras(weights)[:, 0].sum())(weights)

    *recurrent, kernel, bias = weights
    own, texts = Weights.from_keras(*recurrent), padding(SEQUENCES)
    states, history = last_states_to_learn(own, NOTHING_DROPPED, texts, room_for(texts))

    def first_logit(states: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return (states @ kernel + bias)[:, 0].sum()

    by_states, *by_head = jax.grad(first_logit, argnums=(0, 1, 2))(states, kernel, bias)
    by_recurrent, _ = gradient(own, NOTHING_DROPPED, texts, history, by_states)
    ours = [*by_recurrent.to_keras(), *by_head]
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(ours, by_keras, strict=True))


@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.3])
def test_dropout_masks_drop_what_keras_drops(recurrent_dropout: float):
    """Keras keeps the masks it has drawn for a batch, and takes those that it finds."""
    layer = keras.layers.LSTM(UNITS, dropout=0.3, recurrent_dropout=recurrent_dropout)
    shape = replace(SHAPE, spatial_dropout=0.0, dropout=0.3, recurrent_dropout=recurrent_dropout)
    drawn = _drawn_mask(jax.random.key(3), shape, TEXTS)
    words, states = drawn[..., :EMBEDDING], drawn[..., EMBEDDING:]
    layer.build((TEXTS, None, EMBEDDING))
    layer.set_weights(OF_KERAS[1:])
    own = recurrent_dropout > 0
    assert getattr(layer.cell, "dropout_mask_count", 1) == (4 if own else 1)
    layer.cell._dropout_mask = list(words) if own else words[0]
    layer.cell._recurrent_dropout_mask = list(states) if own else None
    padded = Padding(max(LENGTHS), left=False)(SEQUENCES)
    by_keras = layer(WEIGHTS.embedding[padded.tokens.T], mask=padded.real.T, training=True)
    ours, _ = last_states_to_learn(WEIGHTS, drawn, padded, room_for(padded))
    assert np.allclose(ours, by_keras, atol=1e-5)


def test_steps_beyond_the_longest_text_are_not_taken():
    padded = Padding(max(LENGTHS), left=False)(SEQUENCES)
    assert (padded.tokens.shape, int(padded.steps)) == ((60, TEXTS), 14)
    cut = padded._replace(steps=np.int32(13))
    assert not np.allclose(last_states(WEIGHTS, cut), last_states(WEIGHTS, padded))


def test_dropout_keeps_share_and_mean_and_varies_by_key():
    def mask(seed: int, rates: tuple[float, float, float]) -> np.ndarray:
        shape = NetworkShape(WORDS, 3, EMBEDDING, UNITS, *rates)
        return np.asarray(_drawn_mask(jax.random.key(seed), shape, 4000))

    drawn = mask(1, (0.4, 0.3, 0.2))
    words, states = drawn[..., :EMBEDDING], drawn[..., EMBEDDING:]
    assert {round(float(value), 4) for value in np.unique(words)} == {0, round(1 / 0.6 / 0.7, 4)}
    assert {round(float(value), 4) for value in np.unique(states)} == {0, 1.25}
    assert (words > 0).mean() == pytest.approx(0.42, abs=0.02)
    assert (states > 0).mean() == pytest.approx(0.8, abs=0.02)
    assert not np.array_equal(mask(2, (0.4, 0.3, 0.2)), drawn)
    assert (mask(1, (0.0, 0.0, 0.0)) == 1).all()
