"""The recurrence is Keras's LSTM, its gradient the one that JAX finds for the same steps one by one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tamis.models.lstm.keras_on_jax import keras
from tamis.models.lstm.network import Shape, build_network
from tamis.models.lstm.padding import pad
from tamis.models.lstm.recurrence import (
    Masks,
    Padded,
    Weights,
    empty_history,
    last_states,
    last_states_to_learn,
)
from tamis.models.lstm.steps import Padding, _drawn_masks, predict

WORDS, EMBEDDING, UNITS, TEXTS = 9, 6, 5, 7
RNG = np.random.default_rng(7)


def sequences(*lengths: int) -> list[np.ndarray]:
    return [RNG.integers(1, WORDS, length).astype(np.int32) for length in lengths]


LENGTHS = (0, 1, 4, 5, 9, 12, 10)
SEQUENCES = sequences(*LENGTHS)
SHAPES = (WORDS, EMBEDDING), (EMBEDDING, 4 * UNITS), (UNITS, 4 * UNITS), (4 * UNITS,)
WEIGHTS = Weights(*(jnp.asarray(RNG.normal(0, 0.5, shape), jnp.float32) for shape in SHAPES))
MASKS = Masks(
    jnp.asarray(RNG.choice([0, 1.5], (4, TEXTS, EMBEDDING)), jnp.float32),
    jnp.asarray(RNG.choice([0, 1.5], (4, TEXTS, UNITS)), jnp.float32),
)


@pytest.fixture(params=[False, True], ids=["masked", "zeros are read"])
def texts(request: pytest.FixtureRequest) -> Padded:
    return Padding(14 if request.param else max(LENGTHS), left=request.param)(SEQUENCES)


def one_by_one(weights: Weights, masks: Masks, texts: Padded) -> jax.Array:
    """Take the steps as they stand in the books."""
    kernels, recurrents, biases = (jnp.split(part, 4, axis=-1) for part in weights[1:])
    state = cell = jnp.zeros((TEXTS, UNITS))
    for tokens, real in zip(texts.tokens, texts.real, strict=True):
        words = weights.embedding[tokens]
        i, f, g, o = (
            (words * masks.words[k]) @ kernels[k] + (state * masks.states[k]) @ recurrents[k] + biases[k]
            for k in range(4)
        )
        new = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        state = jnp.where(real[:, None], jax.nn.sigmoid(o) * jnp.tanh(new), state)
        cell = jnp.where(real[:, None], new, cell)
    return state


def test_states_and_gradients_are_those_of_the_same_steps_one_by_one(texts: Padded):
    room = empty_history(len(texts.tokens), TEXTS, UNITS)
    directions = jnp.asarray(RNG.normal(size=(TEXTS, UNITS)))

    def ours(weights: Weights) -> jax.Array:
        return (last_states_to_learn(weights, MASKS, texts, room)[0] * directions).sum()

    def plain(weights: Weights) -> jax.Array:
        return (one_by_one(weights, MASKS, texts) * directions).sum()

    (value, gradients), (expected, wanted) = (jax.value_and_grad(f)(WEIGHTS) for f in (ours, plain))
    assert value == pytest.approx(float(expected), abs=1e-5)
    assert all(float(abs(part).max()) > 0.01 for part in wanted), "each has something to say"
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(gradients, wanted, strict=True))


def test_what_was_left_in_the_room_changes_nothing(texts: Padded):
    def gradient(filling: float) -> Weights:
        room = jax.tree.map(lambda part: part + filling, empty_history(len(texts.tokens), TEXTS, UNITS))
        return jax.grad(lambda w: last_states_to_learn(w, MASKS, texts, room)[0].sum())(WEIGHTS)

    for clean, used in zip(gradient(0), gradient(3), strict=True):
        assert np.array_equal(clean, used)


@pytest.mark.parametrize("mask", [True, False], ids=["masked", "zeros are read"])
def test_a_network_of_keras_gives_the_same_logits_and_learns_the_same_without_dropout(mask: bool):
    shape = Shape(WORDS, 3, EMBEDDING, UNITS, spatial_dropout=0, dropout=0, recurrent_dropout=0, mask=mask)
    network = build_network(shape, activation="linear", seed=1)
    weights = [variable.value for variable in network.trainable_variables]
    other = [variable.value for variable in network.non_trainable_variables]
    padding = Padding(14, left=not mask)
    tokens = pad(SEQUENCES, width=14, left=not mask)

    def logits_by_keras(weights: list[jax.Array]) -> jax.Array:
        return network.stateless_call(weights, other, tokens, training=True)[0]

    assert np.allclose(predict(weights, SEQUENCES, padding), logits_by_keras(weights), atol=1e-5)
    gradients = jax.grad(lambda weights: logits_by_keras(weights)[:, 0].sum())(weights)

    def first_logit(weights: list[jax.Array]) -> jax.Array:
        *recurrent, kernel, bias = weights
        room = empty_history(padding.steps, TEXTS, UNITS)
        states, _ = last_states_to_learn(Weights(*recurrent), Masks(), padding(SEQUENCES), room)
        return (states @ kernel + bias)[:, 0].sum()

    ours = jax.grad(first_logit)(weights)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(ours, gradients, strict=True))


@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.3])
def test_masks_drop_what_a_layer_of_keras_drops_by_the_same_masks(recurrent_dropout: float):
    """Keras keeps the masks it has drawn for a batch, and takes those that it finds."""
    layer = keras.layers.LSTM(UNITS, dropout=0.3, recurrent_dropout=recurrent_dropout)
    drawn = _drawn_masks(jax.random.key(3), (0.0, 0.3, recurrent_dropout), TEXTS, WEIGHTS)
    layer.build((TEXTS, None, EMBEDDING))
    layer.set_weights(WEIGHTS[1:])
    own = recurrent_dropout > 0
    assert getattr(layer.cell, "dropout_mask_count", 1) == (4 if own else 1)
    layer.cell._dropout_mask = list(drawn.words) if own else drawn.words[0]
    layer.cell._recurrent_dropout_mask = list(drawn.states) if own else None
    padded = Padding(max(LENGTHS), left=False)(SEQUENCES)
    by_keras = layer(WEIGHTS.embedding[padded.tokens.T], mask=padded.real.T, training=True)
    room = empty_history(len(padded.tokens), TEXTS, UNITS)
    ours, _ = last_states_to_learn(WEIGHTS, drawn, padded, room)
    assert np.allclose(ours, by_keras, atol=1e-5)


def test_steps_beyond_the_longest_text_are_not_taken():
    padded = Padding(max(LENGTHS), left=False)(SEQUENCES)
    assert (padded.tokens.shape, int(padded.stretches)) == ((64, TEXTS), 3)
    cut = padded._replace(stretches=np.int32(2))
    assert not np.allclose(last_states(WEIGHTS, cut), last_states(WEIGHTS, padded))


def test_dropout_keeps_its_share_and_the_mean_and_is_another_at_every_key():
    def masks(seed: int, rates: tuple[float, float, float]) -> Masks:
        return _drawn_masks(jax.random.key(seed), rates, 4000, WEIGHTS)

    drawn = masks(1, (0.4, 0.3, 0.2))
    words, states = np.asarray(drawn.words), np.asarray(drawn.states)
    assert {round(float(value), 4) for value in np.unique(words)} == {0, round(1 / 0.6 / 0.7, 4)}
    assert {round(float(value), 4) for value in np.unique(states)} == {0, 1.25}
    assert (words > 0).mean() == pytest.approx(0.42, abs=0.02)
    assert (states > 0).mean() == pytest.approx(0.8, abs=0.02)
    assert not np.array_equal(masks(2, (0.4, 0.3, 0.2)).words, words)
    assert (np.asarray(masks(1, (0.0, 0.0, 0.0)).words) == 1).all()
