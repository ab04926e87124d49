"""What every head promises: a scikit-learn classifier that can be saved as arrays.

`classes_` are in natural order (numbers by value); inside, a label is its position there, its code.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from frozenhead.heads.calibration import (
    Threshold,
    ThresholdBy,
    ThresholdRule,
    choose_threshold,
    fit_temperature,
    log_softmax,
    mean_log_loss,
)
from frozenhead.heads.options import nearest
from frozenhead.heads.stored import StoredRows, by_stretches, part
from frozenhead.heads.targets import checked_labels, refuse_mixed_types
from frozenhead.heads.weighting import ClassWeight, class_weights
from frozenhead.labels import natural_order

BLOCK = 8192
"""Rows that predict at a time, so that what is between input and output stays small."""

Validation = tuple[Any, ArrayLike]
"""Inputs and labels on which epochs are compared, never trained on."""


class Head(ClassifierMixin, BaseEstimator, ABC):
    """Base of all heads.

    Attributes
    ----------
    classes_ : array (K,)
        Labels in natural order.
    class_weights_ : float64 array (K,)
        The weight that an example of each class had in the loss.
    history_ : list of dict
        One entry per epoch: `epoch`, `train_loss`, `val_loss`. Empty for heads without epochs.
    best_epoch_ : int or None
        The epoch that was kept.
    temperature_ : float
        What `calibrate` divides the logits by; 1.0 until then.
    threshold_ : Threshold or None
        What `set_threshold` chose; None until then.
    """

    takes: ClassVar[Literal["vectors", "texts"]] = "vectors"
    copies: ClassVar[int] = 3
    """float32 copies of `StoredRows` that `fit` needs in memory; 0 reads them a block at a time."""
    class_weight: ClassWeight = "balanced"

    def fit(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None, *, validation: Validation | None = None
    ) -> Self:
        """Train on X and y.

        Parameters
        ----------
        X : float array (N, D), `StoredRows` for vectors that exceed memory, or texts (N,) for heads that take texts
        y : array (N,)
            Labels of any one type.
        sample_weight : float array (N,), optional
            How often each row counts; a row of weight 0 counts as absent. Multiplies the class weights.
        validation : (X, y), optional
            Rows by which heads with epochs choose the best one; without it they keep the last.

        Raises
        ------
        ValueError
            Fewer than two classes, labels of mixed types, a row that is not finite, weights that are negative or all
            0, a validation label that y lacks, or a wrong option.
        """
        inputs, codes, counts = self.begin(X, y, sample_weight)
        held = None if validation is None else self.checked_validation(*validation)
        if self.copies and isinstance(inputs, StoredRows):
            inputs = inputs[:]
        self._fit(inputs, codes, counts * self.class_weights_[codes], held)
        return self

    def begin(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[Any, NDArray[np.int64], NDArray[np.float64]]:
        """The part of `fit` before training: checked inputs, codes (N,) and weights (N,) of the rows."""
        refuse_mixed_types(y)
        inputs, labels = self._checked_inputs(X, y)
        inputs, labels, counts = _weighted(inputs, labels, sample_weight)
        classes, codes = encode_labels(labels)
        if len(classes) < 2:
            raise ValueError(f"y holds one class, {classes.tolist()[0]!r}; a classifier needs at least two.")
        self.learn_classes(classes, codes, counts)
        return inputs, codes, counts

    def learn_classes(self, classes: NDArray[Any], codes: NDArray[np.int64], counts: NDArray[np.float64]) -> None:
        """Take classes (K,) and their weights in the loss from codes (N,) and weights (N,) of rows; forget all else."""
        if len(absent := np.setdiff1d(np.arange(len(classes)), codes)):
            raise ValueError(f"No row has the class {classes.tolist()[absent[0]]!r}.")
        self.classes_ = classes
        self.class_weights_ = class_weights(self.class_weight, classes, codes, counts)
        self.history_: list[dict[str, Any]] = []
        self.best_epoch_: int | None = None
        self.temperature_: float = 1.0
        self.threshold_: Threshold | None = None

    def calibrate(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Set `temperature_` to what gives these rows the lowest log loss; rows that training saw would flatter it.

        The most probable label stays what it was, and the rows' log loss never rises. A threshold chosen before is
        forgotten, since the probabilities it was chosen on are gone.

        Parameters
        ----------
        X : as `fit` takes it
        y : array (N,)
        sample_weight : float array (N,), optional
            How often each row counts.

        Raises
        ------
        ValueError
            As `fit`.
        """
        check_is_fitted(self)
        inputs, codes = self.checked_validation(X, y)
        weights = _checked_weights(sample_weight, codes)
        logits = by_stretches(self._logits, inputs)
        best = fit_temperature(logits, codes, weights)
        # Without an error among the rows, the aim is not their log loss itself: see `fit_temperature`.
        lower = mean_log_loss(logits, codes, weights, best) <= mean_log_loss(logits, codes, weights)
        self.temperature_, self.threshold_ = (best if lower else 1.0), None
        return self

    def set_threshold(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        by: ThresholdBy = "f1",
        floor: float | None = None,
        costs: Sequence[float] | None = None,
        positive: Any = None,
    ) -> Self:
        """Set `threshold_`, by which `predict` tells two classes apart from then on. Calibrate first, if at all.

        Parameters
        ----------
        X, y, sample_weight
            As `calibrate` takes them.
        by : {"f1", "precision", "recall", "costs"}
        floor : float in (0, 1]
            The precision or recall that must be reached.
        costs : (float, float)
            Of a false positive and of a false negative.
        positive : label, optional
            Default: the second of `classes_`.

        Raises
        ------
        ValueError
            More than two classes, no such label, a wrong rule (see `ThresholdRule`), or a floor that no threshold
            reaches.
        """
        check_is_fitted(self)
        rule = ThresholdRule(by=by, floor=floor, costs=costs)
        labels = self.classes_.tolist()
        if len(labels) != 2:
            raise ValueError(f"A threshold tells two classes apart; this head has {len(labels)}.")
        if positive is None:
            positive = labels[1]
        if positive not in labels:
            raise ValueError(f"positive is {positive!r}{nearest(positive, labels)}; the classes are {labels}.")
        code = labels.index(positive)
        inputs, codes = self.checked_validation(X, y)
        weights = _checked_weights(sample_weight, codes)
        value = choose_threshold(by_stretches(self._calibrated, inputs)[:, code], codes == code, rule, weights)
        self.threshold_ = Threshold(positive=labels[code], value=value, rule=str(rule))
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities (N, K) at `temperature_`, columns in the order of `classes_`; each row sums to 1."""
        check_is_fitted(self)
        return by_stretches(self._calibrated, self._checked(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Labels (N,): the most probable ones; with a threshold, the positive one iff its probability reaches it."""
        return self.decide(self.predict_proba(X))

    def decide(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        """What `predict` makes of probabilities (N, K) that `predict_proba` gave: labels (N,)."""
        chosen = probabilities.argmax(axis=1)
        if self.threshold_ is not None:
            positive = self.classes_.tolist().index(self.threshold_.positive)
            chosen = np.where(probabilities[:, positive] >= self.threshold_.value, positive, 1 - positive)
        return np.asarray(self.classes_[chosen])

    def _calibrated(self, inputs: Any) -> NDArray[np.float64]:
        """`predict_proba` of checked inputs."""
        if self.temperature_ == 1:
            probabilities = self._probabilities(inputs)
        else:
            probabilities = np.exp(log_softmax(self._logits(inputs) / self.temperature_))
        _refuse_infinite(probabilities, "the probabilities; the values in X are too large for this head")
        return probabilities

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The learned numbers by name: with `classes_` and the parameters, all that prediction needs."""

    @abstractmethod
    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave. `classes_` is already set. Raises `KeyError` if one is missing."""

    @abstractmethod
    def _fit(
        self,
        X: Any,
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: tuple[Any, NDArray[np.int64]] | None,
    ) -> None:
        """Learn from checked inputs, codes (N,) and the rows' weights in the loss (N,), those of classes included."""

    @abstractmethod
    def _probabilities(self, X: Any) -> NDArray[np.float64]:
        """Probabilities (N, K) of checked inputs, at temperature 1."""

    def _logits(self, X: Any) -> NDArray[np.float64]:
        """Numbers (N, K) whose softmax are the probabilities at temperature 1; a probability of 0 is -inf."""
        with np.errstate(divide="ignore"):
            return np.log(self._probabilities(X))

    def _checked_inputs(self, X: Any, y: ArrayLike) -> tuple[Any, NDArray[Any]]:
        """Inputs and labels of `fit`, validated."""
        if isinstance(X, StoredRows):
            self.n_features_in_ = X.shape[1]
            return _checked_stored(X), checked_labels(y, len(X))
        inputs, labels = validate_data(self, X, y, dtype=np.float32, order="C", ensure_all_finite=False)
        _refuse_infinite(inputs, "X")
        return inputs, checked_labels(labels, len(inputs))

    def _checked(self, X: Any) -> Any:
        """Inputs of everything after `fit`, validated against what was fitted."""
        if isinstance(X, StoredRows):
            if X.shape[1] != self.n_features_in_:
                raise ValueError(f"X has {X.shape[1]} columns; this head was fitted on {self.n_features_in_}.")
            return _checked_stored(X)
        inputs = validate_data(self, X, dtype=np.float32, order="C", reset=False, ensure_all_finite=False)
        _refuse_infinite(inputs, "X")
        return inputs

    def checked_validation(self, X: Any, y: ArrayLike) -> tuple[Any, NDArray[np.int64]]:
        """Validation inputs, and the codes of labels that `fit` has seen."""
        refuse_mixed_types(y)
        inputs = self._checked(X)
        known = {label: code for code, label in enumerate(self.classes_.tolist())}
        labels = checked_labels(y, len(inputs)).tolist()
        unseen = sorted({repr(label) for label in labels if label not in known})
        if unseen:
            raise ValueError(f"The validation labels {', '.join(unseen[:5])} do not occur in y.")
        refuse_mixed_types([*labels[:1], *known][:2])  # True is not 1 there either
        return inputs, np.array([known[label] for label in labels], np.int64)


def _weighted(
    inputs: Any, labels: NDArray[Any], sample_weight: ArrayLike | None
) -> tuple[Any, NDArray[Any], NDArray[np.float64]]:
    """Inputs, labels and weights (N,) of the rows that count: none is copied unless a weight is 0."""
    weights = _checked_weights(sample_weight, labels)
    counting = np.flatnonzero(weights)
    if len(counting) == len(weights):
        return inputs, labels, weights
    kept = [inputs[i] for i in counting] if isinstance(inputs, list) else part(inputs, counting)
    return kept, labels[counting], weights[counting]


def _checked_weights(sample_weight: ArrayLike | None, rows: NDArray[Any]) -> NDArray[np.float64]:
    """Weights (N,) of rows (N,), 1 by default. Raises `ValueError` for negative ones, or for nothing but 0."""
    weights: NDArray[np.float64] = _check_sample_weight(
        sample_weight, rows, dtype=np.float64, ensure_non_negative=True, allow_all_zero_weights=False
    )
    return weights


def _refuse_infinite(values: NDArray[np.floating[Any]], what: str) -> None:
    """Raise for NaN or infinity in values (N, M), naming the first row. max and min pass NaN on and need no (N, M)."""
    finite = np.isfinite(values.max(axis=1)) & np.isfinite(values.min(axis=1))  # (N,)
    if not finite.all():
        raise ValueError(f"Row {int(finite.argmin())} holds NaN or infinity in {what}.")


def _checked_stored(X: StoredRows) -> StoredRows:
    """The same rows. Raises `ValueError` as for an array: for none, and for one that is not finite."""
    if not len(X):
        raise ValueError("X has 0 rows; expected at least one.")
    if len(bad := X.not_finite()):
        raise ValueError(f"Row {bad[0]} holds NaN or infinity in X.")
    return X


def encode_labels(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Classes in natural order (K,), and each label's position among them (N,)."""
    values = y.tolist() if y.dtype == object else []
    if set(map(type, values)) == {str}:  # to sort millions of strings takes minutes, to look them up seconds
        known = {label: code for code, label in enumerate(natural_order(set(values)))}
        return np.array(list(known), object), np.array([known[label] for label in values], np.int64)
    classes, codes = np.unique(y, return_inverse=True)
    labels = classes.tolist()
    if all(isinstance(label, str) for label in labels):
        position = {label: i for i, label in enumerate(natural_order(labels))}
        rank = np.array([position[label] for label in labels], np.int64)
        return classes[np.argsort(rank)], rank[codes]
    return classes, codes.astype(np.int64)


def in_blocks(function: Callable[[Any], NDArray[Any]], X: NDArray[Any]) -> NDArray[Any]:
    """`function` of BLOCK rows of X at a time, joined: what it makes of its input is never larger than a block."""
    return np.concatenate([function(X[i : i + BLOCK]) for i in range(0, len(X), BLOCK)])


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Row-wise softmax in float64: (N, K) -> (N, K)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    return np.asarray(exponential / exponential.sum(axis=1, keepdims=True))
