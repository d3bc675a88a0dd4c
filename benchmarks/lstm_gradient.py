"""The hand-written gradient of the fused LSTM step against JAX's automatic differentiation of that step.

    python benchmarks/lstm_gradient.py
    python benchmarks/lstm_gradient.py --steps 16 40 --texts 32 --rounds 60

Both sides compute the last states and the gradient by all weights, for the workshop's network. JAX cannot
differentiate a loop whose length is known only at run time, so its side is compiled for the exact number of
steps, which favours it: in training it would also compile a program for each length, or pad. The two sides
take turns; the ratio is that of processor time (all threads) in one round. Gradients are compared first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from tamis.training.trainers.lstm import recurrence
from tamis.training.trainers.lstm.keras_backend import jax
from tamis.training.trainers.lstm.recurrence import STEPS_TOGETHER, Padded, Weights, empty_history

WORDS, EMBEDDING, UNITS = 280, 128, 196  # 291,034 parameters with the head, as the workshop has them
CALLS = 10
"""Steps of training per round: one is shorter than the clock of processor time is precise."""


def main() -> None:
    """Print a row for each number of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[12, 24, 48, 96])
    parser.add_argument("--texts", type=int, default=16, help="per device: half of a batch of 32")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    print(f"{'steps':>5}  {'hand-written':>12}  {'autodiff':>12}  {'ratio: median':>13}  {'quartiles':>11}")
    for steps in options.steps:
        by_hand, automatic = sides(steps, options.texts)
        rounds = np.array([[seconds(by_hand), seconds(automatic)] for _ in range(options.rounds)])
        low, middle, high = np.quantile(rounds[:, 1] / rounds[:, 0], [0.25, 0.5, 0.75])
        hand_ms, auto_ms = np.median(rounds, axis=0) * 1000 / CALLS
        print(
            f"{steps:5}  {hand_ms:9.2f} ms  {auto_ms:9.2f} ms  {middle:13.2f}  {low:5.2f}-{high:.2f}",
            flush=True,
        )


def sides(steps: int, texts: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return two functions that compute the same gradient, compiled and compared."""
    random = np.random.default_rng(1)
    weights = Weights(
        *(
            jnp.array(random.normal(0, 0.1, shape), jnp.float32)
            for shape in ((WORDS, EMBEDDING), (4, EMBEDDING + UNITS, UNITS), (4, 1, UNITS))
        )
    )
    mask = jnp.array(random.random((4, texts, EMBEDDING + UNITS)) > 0.2, jnp.float32) / 0.8
    by_states = jnp.array(random.normal(0, 1, (texts, UNITS)), jnp.float32)
    room = -(-steps // STEPS_TOGETHER) * STEPS_TOGETHER
    lengths = random.integers(steps // 2, steps + 1, texts)
    real = np.arange(room)[:, None] < lengths
    tokens = jnp.array(random.integers(1, WORDS, real.shape) * real)
    padded = Padded(tokens, jnp.array(real), np.int32(steps))

    hand_program = jax.jit(_by_hand, donate_argnums=4)  # the history is reused, as in training
    auto_program = jax.jit(lambda *arguments: _automatic(*arguments, steps=steps))
    history = [empty_history(room, texts, EMBEDDING, UNITS)]

    def by_hand() -> Any:
        found, history[0] = hand_program(weights, mask, padded, by_states, history[0])
        return jax.block_until_ready(found)

    def automatic() -> Any:
        return jax.block_until_ready(auto_program(weights, mask, padded, by_states))

    for own, other in zip(by_hand(), automatic(), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-3, atol=1e-4)
    return by_hand, automatic


def _by_hand(weights: Weights, mask: Any, texts: Padded, by_states: Any, room: Any) -> Any:
    _, history = recurrence.last_states_to_learn(weights, mask, texts, room)
    return recurrence.gradient(weights, mask, texts, history, by_states)


def _automatic(weights: Weights, mask: Any, texts: Padded, by_states: Any, *, steps: int) -> Any:
    def states(weights: Weights) -> Any:  # the same forward step; without a history, JAX keeps its own
        return recurrence._forward(weights, mask, texts._replace(steps=steps), None)[0]

    return jax.vjp(states, weights)[1](by_states)[0]


def seconds(compute: Callable[[], Any]) -> float:
    """Return the processor time of some calls, in seconds."""
    started = time.process_time()
    for _ in range(CALLS):
        compute()
    return time.process_time() - started


if __name__ == "__main__":
    main()
