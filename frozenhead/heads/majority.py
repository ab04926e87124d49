"""The floor: every text gets the most frequent label, with the labels' shares as probabilities."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import _num_samples

from frozenhead.heads.base import Head
from frozenhead.heads.targets import checked_labels


class MajorityHead(Head):
    """Looks at no input at all. A head that is not clearly better has learned nothing.

    Attributes
    ----------
    shares_ : float64 array (K,)
        Share of each class among the training labels.
    """

    takes: ClassVar[Literal["vectors", "texts"]] = "texts"
    class_weight = None  # shares are shares

    def _fit(
        self,
        X: Any,  # noqa: ARG002
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: Any,  # noqa: ARG002
    ) -> None:
        shares = np.bincount(codes, weights=weights, minlength=len(self.classes_))  # class weights are 1 here
        self.shares_ = shares / shares.sum()

    def _probabilities(self, X: Any) -> NDArray[np.float64]:
        return np.tile(self.shares_, (_num_samples(X), 1))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`shares`."""
        return {"shares": self.shares_}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self.shares_ = arrays["shares"]

    def _checked_inputs(self, X: Any, y: ArrayLike) -> tuple[Any, NDArray[Any]]:
        return X, checked_labels(y, _num_samples(X))

    def _checked(self, X: Any) -> Any:
        return X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.no_validation, tags.classifier_tags.poor_score = True, True
        return tags
