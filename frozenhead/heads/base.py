"""What every head promises: a scikit-learn classifier that can be saved as arrays.

`classes_` are in natural order (numbers by value); inside, a label is its position there, its code.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from frozenhead.heads.weighting import ClassWeight, class_weights
from frozenhead.labels import natural_order

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
    """

    takes: ClassVar[Literal["vectors", "texts"]] = "vectors"
    class_weight: ClassWeight = "balanced"

    def fit(self, X: Any, y: ArrayLike, *, validation: Validation | None = None) -> Self:
        """Train on X and y.

        Parameters
        ----------
        X : float array (N, D), or texts (N,) for heads that take texts
        y : array (N,)
            Labels of any one type.
        validation : (X, y), optional
            Rows by which heads with epochs choose the best one; without it they keep the last.

        Raises
        ------
        ValueError
            Fewer than two classes, a validation label that y lacks, or a wrong option.
        """
        inputs, labels = self._checked_inputs(X, y)
        self.classes_, codes = encode_labels(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class, {self.classes_[0]!r}; a classifier needs at least two.")
        self.class_weights_ = class_weights(self.class_weight, self.classes_, codes)
        self.history_: list[dict[str, Any]] = []
        self.best_epoch_: int | None = None
        held = None if validation is None else (self._checked(validation[0]), self._codes(validation[1]))
        self._fit(inputs, codes, held)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities (N, K), columns in the order of `classes_`; each row sums to 1."""
        check_is_fitted(self)
        return self._probabilities(self._checked(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each row: array (N,)."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The learned numbers by name: with `classes_` and the parameters, all that prediction needs."""

    @abstractmethod
    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave. `classes_` is already set. Raises `KeyError` if one is missing."""

    @abstractmethod
    def _fit(self, X: Any, codes: NDArray[np.int64], validation: tuple[Any, NDArray[np.int64]] | None) -> None:
        """Learn from checked inputs and codes (N,)."""

    @abstractmethod
    def _probabilities(self, X: Any) -> NDArray[np.float64]:
        """Probabilities (N, K) of checked inputs."""

    def _checked_inputs(self, X: Any, y: ArrayLike) -> tuple[Any, NDArray[Any]]:
        """Inputs and labels of `fit`, validated."""
        inputs, labels = validate_data(self, X, y, dtype=np.float32, order="C")
        check_classification_targets(labels)
        return inputs, labels

    def _checked(self, X: Any) -> Any:
        """Inputs of everything after `fit`, validated against what was fitted."""
        return validate_data(self, X, dtype=np.float32, order="C", reset=False)

    def _codes(self, y: ArrayLike) -> NDArray[np.int64]:
        """Codes of labels that `fit` has seen."""
        known = {label: code for code, label in enumerate(self.classes_.tolist())}
        labels = np.asarray(y).tolist()
        unseen = sorted({repr(label) for label in labels if label not in known})
        if unseen:
            raise ValueError(f"The validation labels {', '.join(unseen[:5])} do not occur in y.")
        return np.array([known[label] for label in labels], np.int64)


def encode_labels(y: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Classes in natural order (K,), and each label's position among them (N,)."""
    classes, codes = np.unique(y, return_inverse=True)
    labels = classes.tolist()
    if all(isinstance(label, str) for label in labels):
        position = {label: i for i, label in enumerate(natural_order(labels))}
        rank = np.array([position[label] for label in labels], np.int64)
        return classes[np.argsort(rank)], rank[codes]
    return classes, codes.astype(np.int64)


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Row-wise softmax in float64: (N, K) -> (N, K)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    return np.asarray(exponential / exponential.sum(axis=1, keepdims=True))
