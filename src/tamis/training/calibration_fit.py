"""The fit of a calibration: one scale and a bias per class, by penalised maximum likelihood.

    targets:   the own class of n texts (n + 1) / (n + 2), the rest divided among the other classes
    loss:      cross entropy of softmax(scale · logits + bias) and targets, plus Σ bias² / (2 · variance)
    minimised: by Newton's method, each step halved while it leads uphill

Source: J. Platt, "Probabilistic outputs for support vector machines", 1999, with his smoothed
targets; for more than two classes one scale and a bias per class (a restricted vector scaling).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tamis.training.metrics import Floats, class_indices
from tamis.training.trainers.base import Calibration, Logits

# below it a halved step no longer changes the parameters, which are of the order of 1
_MIN_STEP = 1e-15
_MIN_SCALE = 1e-6  # a scale of 0 or less would discard or reverse the model's ranking
_MAX_TEXTS = 50_000  # more texts do not make one scale and a few biases more accurate
_MAX_STEPS = 100
# the products of all classes with all others grow with the square: beyond, a bound takes their place
_MAX_FULL_HESSIAN = 64
_TOLERANCE = 1e-10
_BIAS_VARIANCE = 0.1  # of the prior; a few dozen texts of a class outweigh it


def fit_calibration(
    logits: Logits, labels: Sequence[str], classes: Sequence[str], *, start: Calibration | None = None
) -> Calibration:
    """Fit one scale and a bias for each class by penalised maximum likelihood.

    logits:  [texts, classes] of texts that the model had not seen, in the order of `classes`
    classes: those without a text among `labels` get the bias 0 and share the scale
    start:   where the search starts; one fitted on similar texts saves half of its steps

    The scale is estimated from all texts together, so all of them together move one text's worth of
    probability (Platt's target, (n + 1) / (n + 2) for n texts), however many classes there are. A bias
    is estimated from its class's texts alone: a normal prior keeps it near 0 while these are few.
    """
    # every n-th text: a file may be in the order of its labels
    step = max(1, len(labels) // _MAX_TEXTS)
    likelihood = _Likelihood(logits[::step], class_indices(labels[::step], classes))
    start = start or Calibration(1.0, (0.0,) * len(classes))
    parameters, loss = np.array([start.scale, *start.bias]), np.inf
    parameters[1:][~likelihood.is_measured] = 0.0
    for _ in range(_MAX_STEPS):
        gradient, curvature = likelihood.derivatives(parameters)
        direction = np.linalg.solve(curvature, gradient)
        step_size, previous = 1.0, loss
        while step_size > _MIN_STEP:
            candidate = parameters - step_size * direction
            candidate[0] = max(candidate[0], _MIN_SCALE)
            loss = likelihood.loss(candidate)
            if loss <= previous:
                break
            step_size /= 2
        parameters = candidate
        if previous - loss < _TOLERANCE:
            break
    return Calibration(float(parameters[0]), tuple(parameters[1:].tolist()))


class _Likelihood:
    """The penalised negative log-likelihood of scale and biases, with its derivatives, for Newton's method.

    It is convex, so Newton's steps, halved while they lead uphill, find its minimum. Beyond a few dozen
    classes their Hessian is replaced by a bound of it that is diagonal in the biases.
    """

    def __init__(self, logits: Logits, true: npt.NDArray[np.intp]):
        self._logits, self._true = logits, true
        n_texts, n_classes = logits.shape
        self._rows = np.arange(n_texts)
        certain = (n_texts + 1) / (n_texts + 2)
        self._other = (1 - certain) / max(1, n_classes - 1)
        self._own = certain - self._other
        self.is_measured = np.bincount(true, minlength=n_classes) > 0
        self._last: tuple[bytes, Floats] | None = None

    def loss(self, parameters: Floats) -> float:
        """Return the mean loss per text."""
        log_probabilities = self._log_probabilities(parameters)
        of_label = log_probabilities[self._rows, self._true]
        loss = -(self._own * of_label.sum() + self._other * log_probabilities.sum())
        return float(loss + (parameters[1:] ** 2).sum() / (2 * _BIAS_VARIANCE)) / len(self._rows)

    def derivatives(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Return gradient [1 + classes] and Hessian [1 + classes, 1 + classes]; unmeasured biases stay 0."""
        probabilities = np.exp(self._log_probabilities(parameters))
        errors = probabilities - self._other
        errors[self._rows, self._true] -= self._own
        weighted = probabilities * self._logits
        mean = weighted.sum(axis=1, keepdims=True)
        gradient = np.concatenate([[(errors * self._logits).sum()], errors.sum(axis=0)])
        gradient[1:] += parameters[1:] / _BIAS_VARIANCE
        size = gradient.size
        hessian = np.zeros((size, size))
        # 1e-9 keeps the matrix regular if all logits are equal
        hessian[0, 0] = (weighted * (self._logits - mean)).sum() + 1e-9
        hessian[0, 1:] = hessian[1:, 0] = (weighted - probabilities * mean).sum(axis=0)
        if size <= _MAX_FULL_HESSIAN:
            hessian[1:, 1:] = np.diag(probabilities.sum(axis=0)) - probabilities.T @ probabilities
        else:  # without the product of all classes with all others, which is subtracted
            hessian[1:, 0] = hessian[0, 1:] = 0.0
            hessian[1:, 1:] = np.diag(probabilities.sum(axis=0))
        hessian[1:, 1:] += np.eye(size - 1) / _BIAS_VARIANCE
        # classes without texts: a row of the identity keeps the system solvable and their biases at 0
        fixed = np.flatnonzero(~self.is_measured) + 1
        gradient[fixed] = 0.0
        hessian[fixed, :] = hessian[:, fixed] = 0.0
        hessian[fixed, fixed] = 1.0
        return gradient / len(self._rows), hessian / len(self._rows)

    def _log_probabilities(self, parameters: Floats) -> Floats:
        key = parameters.tobytes()
        if self._last is None or self._last[0] != key:  # derivatives follow a loss at the same point
            shifted = parameters[0] * self._logits + parameters[1:]
            shifted -= shifted.max(axis=1, keepdims=True)
            self._last = key, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return self._last[1]
