"""Learns the weights of a linear model from counted features: by the compiled library, or by scikit-learn.

    counts ──► feature weights (IDF · separation of the labels) ──► values, blocks scaled to their weight ──►
    one linear SVM for each label against the others, by dual coordinate descent ──► weights, intercepts

Needed for training only. Handles ids of features and indices of labels; independent of texts.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.errors import MissingExtraError
from tamis.models.linear.weights import SUBLINEAR
from tamis.native import LabelledRows, Library, SolverOptions, address_of, check, contiguous, native_library
from tamis.training.trainers.linear.count_table import CountTable, n_processors

Floats = npt.NDArray[np.float64]

# mean accuracy on ten sets: .8218 with 5 epochs, .8223 with 8, .8222 with 20
_MIN_EPOCHS, _MAX_EPOCHS = 8, 50
# of rows, in all epochs: small data are solved closely, which costs little
_MIN_VISITS = 20_000
_MAX_ITERATIONS = 10_000
# in texts: a feature that a label never has would have an infinite log ratio
_SMOOTHING = 1.0
_CHUNK = 1 << 14


@dataclass(frozen=True)
class Problem:
    """What to learn: the rows of a table, each with the index of its label, and how.

    min_documents: features of fewer rows are dropped
    log_ratios:    whether features are weighted by how strongly they separate the labels
    block_weights: [blocks] length of each block's vector
    costs:         [columns, 2] cost of an error on a text of the label, and on one of the others
    """

    table: CountTable
    rows: npt.NDArray[np.uint32]
    labels: npt.NDArray[np.uint32]
    n_labels: int
    min_documents: int
    log_ratios: bool
    block_weights: tuple[float, ...]
    costs: Floats
    seed: int


@dataclass(frozen=True)
class Solution:
    """The learned weights.

    documents:       [ids] in how many of the rows each feature is
    feature_weights: [ids] 0 for those that are not learned
    weights:         [ids, columns]
    intercept:       [columns]
    """

    documents: npt.NDArray[np.uint32]
    feature_weights: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    intercept: Floats

    def strengths(self, ids: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Return the effect of features: the largest weight · value, times √(the rows that have them)."""
        # by weight alone, 41 intents fell from .956 to .928 with half of the features; with √rows they stayed
        strengths = self.feature_weights[ids] * np.sqrt(self.documents[ids])
        for start in range(0, ids.size, _CHUNK):  # with many labels a copy of all weights is large
            chunk = slice(start, start + _CHUNK)
            strengths[chunk] *= np.abs(self.weights[ids[chunk]]).max(axis=1)
        return strengths.astype(np.float32)


@dataclass(frozen=True)
class WeightedFeatures:
    """In how many rows each feature is, and its weight: 0 for those that are not learned."""

    documents: npt.NDArray[np.uint32]
    weights: Floats


def solve(problem: Problem) -> Solution:
    """Learn one column for each label against all others, or a single one for the second of two labels.

    The result is the same bits whatever the number of threads.
    """
    library, table = native_library(), problem.table
    found = weigh_features(problem)
    # as precise as an artifact keeps them, so that what is learned is what is served
    precision: Any = np.float16 if table.settings.format > 1 else np.float32
    kept = found.weights.astype(precision).astype(np.float32)
    if library is None:
        weights, intercept = solve_with_sklearn(problem, kept)
    else:
        weights, intercept = _solve_natively(library, problem, kept)
    # folded into the weights, so that serving need not know the weights of blocks
    weights *= np.asarray(problem.block_weights, np.float32)[table.blocks][:, None]
    return Solution(found.documents, kept, weights, intercept)


def weigh_features(problem: Problem) -> WeightedFeatures:
    """Return the weight of each feature: its inverse document frequency, times √(½ + the largest log ratio).

    The ratio is that of a feature's probability in a label to that in the others, smoothed by one text; its
    logarithm counts without sign.
    """
    library = native_library()
    if library is None:
        return weigh_features_in_numpy(problem)
    size = problem.table.numbers.size
    # arrays stay in variables until the call is over: the library gets only their addresses
    weights, documents = np.empty(size), np.empty(size, np.uint32)
    counted, (rows, labels) = problem.table.parts(), _row_arrays(problem)
    parts = LabelledRows(address_of(rows), address_of(labels), rows.size, problem.n_labels)
    status = library.feature_weights(
        ctypes.byref(counted),
        ctypes.byref(parts),
        problem.min_documents,
        problem.log_ratios,
        address_of(weights),
        address_of(documents),
    )
    check(status)
    return WeightedFeatures(documents, weights)


def weigh_features_in_numpy(problem: Problem) -> WeightedFeatures:
    """Return the same as `weigh_features`, without the compiled library."""
    table, size = problem.table, problem.table.numbers.size
    owners, entries = table.entries_of(problem.rows)
    ids, labels = table.ids[entries], problem.labels[owners]
    documents = np.bincount(ids, minlength=size)
    n_texts = problem.rows.size
    weights: Floats = np.log((1 + n_texts) / (1 + documents)) + 1
    if problem.log_ratios:
        largest = np.zeros(size)
        for label in range(problem.n_labels):
            inside = np.bincount(ids[labels == label], minlength=size)
            n_inside = np.count_nonzero(problem.labels == label)
            within = (inside + _SMOOTHING) / (n_inside + 2 * _SMOOTHING)
            elsewhere = (documents - inside + _SMOOTHING) / (n_texts - n_inside + 2 * _SMOOTHING)
            np.maximum(largest, np.abs(np.log(within / elsewhere)), out=largest)
        weights *= np.sqrt(0.5 + largest)
    weights[documents < max(problem.min_documents, 1)] = 0
    return WeightedFeatures(documents.astype(np.uint32), weights)


def _row_arrays(problem: Problem) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    return contiguous(problem.rows, np.uint32), contiguous(problem.labels, np.uint32)


_Learned = tuple[npt.NDArray[np.float32], Floats]
"""[ids, columns] weights of the scaled values, and [columns] intercepts."""


def _solve_natively(library: Library, problem: Problem, kept: npt.NDArray[np.float32]) -> _Learned:
    table, n_columns = problem.table, len(problem.costs)
    weights = np.zeros((table.numbers.size, n_columns), np.float32)
    intercept = np.zeros(n_columns)
    blocks, costs = table.blocks, contiguous(problem.costs, np.float64)
    counted, (rows, labels) = table.parts(), _row_arrays(problem)
    parts = LabelledRows(address_of(rows), address_of(labels), rows.size, problem.n_labels)
    block_weights = [*problem.block_weights, 1.0, 1.0][:3]  # format 1 has a single block
    options = SolverOptions(
        feature_weights=address_of(kept),
        blocks=address_of(blocks),
        block_weights=(ctypes.c_double * 3)(*block_weights),
        sublinear=address_of(SUBLINEAR),
        n_sublinear=SUBLINEAR.size,
        costs=address_of(costs),
        n_columns=n_columns,
        epochs=min(max(_MIN_EPOCHS, _MIN_VISITS // rows.size), _MAX_EPOCHS),
        seed=problem.seed % 2**64,  # ctypes would cut other numbers without an error
        n_threads=n_processors(),
    )
    status = library.solve(
        ctypes.byref(counted),
        ctypes.byref(parts),
        ctypes.byref(options),
        address_of(weights),
        address_of(intercept),
    )
    check(status)
    return weights, intercept


def solve_with_sklearn(problem: Problem, kept: npt.NDArray[np.float32]) -> _Learned:
    """Learn with scikit-learn, for installations without Rust; `kept` are [ids] weights of the features."""
    try:
        from sklearn.svm import LinearSVC  # here, because a wheel with the compiled library trains without it
    except ModuleNotFoundError:
        raise MissingExtraError("training without the native library", "train") from None
    matrix = scaled_matrix(problem, kept)
    # the dual solver has no threads and no BLAS in it: the same bits everywhere. C is part of the costs
    machine = LinearSVC(C=1.0, random_state=problem.seed, max_iter=_MAX_ITERATIONS, dual=True)
    weights, intercept = [], []
    for column, (own, other) in enumerate(problem.costs.tolist()):
        # the single column of two labels is that of the second
        is_own = problem.labels == (1 if len(problem.costs) == 1 else column)
        machine.fit(matrix, is_own, sample_weight=np.where(is_own, own, other))
        weights.append(machine.coef_[0])
        intercept.append(machine.intercept_[0])
    return np.stack(weights, axis=1).astype(np.float32), np.asarray(intercept)


def scaled_matrix(problem: Problem, kept: npt.NDArray[np.float32]) -> Any:
    """Return the sparse matrix [rows, ids] of values, each block of a row as long as its weight."""
    from scipy.sparse import csr_matrix

    table = problem.table
    owners, entries = table.entries_of(problem.rows)
    ids = table.ids[entries]
    blocks = table.blocks[ids]
    values = SUBLINEAR[np.minimum(table.counts[entries], SUBLINEAR.size - 1)] * kept[ids]
    block_of = owners * table.settings.n_blocks + blocks
    norms = np.sqrt(np.bincount(block_of, values * values))
    norms[norms == 0] = 1  # a block of features that are all dropped
    values *= np.asarray(problem.block_weights)[blocks] / norms[block_of]
    return csr_matrix((values, (owners, ids)), shape=(problem.rows.size, table.numbers.size))
