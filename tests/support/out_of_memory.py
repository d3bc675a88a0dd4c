"""A process that runs each function of the native library with less and less address space.

For every function it prints how often the library reported a lack of memory, and whether every answer that
came was the one without a limit. Run as `python -m tests.support.out_of_memory`.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tamis.data.near_duplicates import near_duplicate_groups
from tamis.models.linear.features import FeatureSettings
from tamis.models.linear.native import Tensors, native_counter, native_weights
from tamis.models.linear.weights import SUBLINEAR
from tamis.training.trainers.linear.count_table import count_texts
from tamis.training.trainers.linear.solver import Problem, solve, weigh_features

SETTINGS = FeatureSettings(bits=18, format=2)
STEP, STEPS = 3 << 20, 10
PAGE = resource.getpagesize()


def texts() -> list[str]:
    rng = np.random.default_rng(1)
    return [" ".join(map(str, rng.integers(0, 9999, 40))) for _ in range(2000)]


def functions() -> dict[str, Callable[[], Any]]:
    """Return a call of each function that allocates; a little Python around each, with small arrays."""
    rng, many, long_text = np.random.default_rng(2), texts(), " ".join(texts()[:1000])
    features = np.sort(rng.choice(SETTINGS.n_numbers, 200_000, replace=False)).astype(np.uint32)
    numbers = rng.normal(size=(features.size, 8)).astype(np.float32)
    tensors = Tensors(features, np.ones(features.size, np.float32), numbers, np.zeros(8), SUBLINEAR)
    model, counter = native_weights(tensors, SETTINGS), native_counter(SETTINGS)
    assert model is not None and counter is not None
    counted = count_texts(many, SETTINGS)
    labels = np.arange(len(many), dtype=np.uint32) % 20
    problem = Problem(
        table=counted.table,
        rows=counted.rows,
        labels=labels,
        n_labels=20,
        min_documents=1,
        log_ratios=True,
        block_weights=(1.0, 0.75, 0.2),
        costs=np.ones((20, 2)),
        seed=1,
    )
    return {
        "new_model": lambda: native_weights(tensors, SETTINGS) is not None,
        "probabilities": lambda: model.probabilities([long_text]).tolist(),
        "count": lambda: counter([long_text[:100_000]]).counts.sum().item(),
        "feature_weights": lambda: weigh_features(problem).weights.sum().item(),
        "solve": lambda: solve(problem).weights.sum().item(),
        "near_duplicates": lambda: near_duplicate_groups(many).tolist(),
    }


def with_space(call: Callable[[], Any], n_bytes: int) -> Any:
    """Return what `call` returns with so much more address space, or the message of its MemoryError."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (used + n_bytes, resource.RLIM_INFINITY))
    try:
        return call()
    except MemoryError as failed:
        return failed
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def main() -> None:
    """Print one JSON object: for every function [failures reported by the library, right answers, others]."""
    found: dict[str, list[int]] = {}
    for name, call in functions().items():
        outcomes = [with_space(call, step * STEP) for step in range(1, STEPS)]
        answer = call()
        failed = [str(outcome) for outcome in outcomes if isinstance(outcome, MemoryError)]
        by_library = sum("native library" in message for message in failed)
        right = sum(outcome == answer for outcome in outcomes if not isinstance(outcome, MemoryError))
        found[name] = [by_library, right, len(outcomes) - len(failed) - right]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
