"""TF-IDF with logistic regression on the texts: the baseline that no encoder may lose to unnoticed."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from frozenhead.heads.base import Head, checked_labels
from frozenhead.heads.logistic import logistic_probabilities, logistic_regression
from frozenhead.heads.weighting import ClassWeight


class TfidfHead(Head):
    """Words and pairs of words, TF-IDF with sublinear counts, logistic regression.

    Parameters
    ----------
    ngrams : int
        Longest run of words that is a term.
    min_df : int
        Texts a term must stand in.
    C : float
        Inverse strength of the penalty.
    max_iter : int
        Most L-BFGS iterations.
    class_weight : "balanced", None, or mapping of label to weight

    Attributes
    ----------
    vocabulary_ : list of str (V,)
    idf_ : float64 array (V,)
    coef_ : float64 array (K, V), or (1, V) for two classes
    intercept_ : float64 array (K,) or (1,)
    """

    takes: ClassVar[Literal["vectors", "texts"]] = "texts"

    def __init__(
        self,
        *,
        ngrams: int = 2,
        min_df: int = 1,
        C: float = 10.0,
        max_iter: int = 2000,
        class_weight: ClassWeight = "balanced",
    ) -> None:
        self.ngrams = ngrams
        self.min_df = min_df
        self.C = C
        self.max_iter = max_iter
        self.class_weight = class_weight

    def _fit(
        self,
        X: list[str],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: Any,  # noqa: ARG002
    ) -> None:
        vectorizer = self._vectorizer()
        terms = vectorizer.fit_transform(X)  # (N, V)
        model = logistic_regression(self.C, self.max_iter).fit(terms, codes, weights)
        self.vocabulary_ = vectorizer.get_feature_names_out().tolist()
        self.idf_ = vectorizer.idf_
        self.coef_, self.intercept_ = model.coef_, model.intercept_
        self.n_iter_ = int(model.n_iter_.max())
        self._fitted_vectorizer = vectorizer

    def _probabilities(self, X: list[str]) -> NDArray[np.float64]:
        return logistic_probabilities(self.coef_, self.intercept_, self._fitted_vectorizer.transform(X))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`coef`, `intercept`, `idf`, and `vocabulary`: the terms in UTF-8, a line each, as uint8."""
        terms = np.frombuffer("\n".join(self.vocabulary_).encode(), np.uint8)
        return {"coef": self.coef_, "intercept": self.intercept_, "idf": self.idf_, "vocabulary": terms}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self.vocabulary_ = arrays["vocabulary"].tobytes().decode().split("\n")
        self.idf_ = arrays["idf"]
        self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]
        self._fitted_vectorizer = self._vectorizer(vocabulary=self.vocabulary_)
        self._fitted_vectorizer.idf_ = self.idf_

    def _vectorizer(self, vocabulary: list[str] | None = None) -> TfidfVectorizer:
        return TfidfVectorizer(
            ngram_range=(1, self.ngrams), min_df=self.min_df, sublinear_tf=True, vocabulary=vocabulary
        )

    def _checked_inputs(self, X: Any, y: ArrayLike) -> tuple[list[str], NDArray[Any]]:
        texts = self._checked(X)
        return texts, checked_labels(y, len(texts))

    def _checked(self, X: Any) -> list[str]:
        if isinstance(X, str) or getattr(X, "ndim", 1) != 1:
            raise TypeError("X must be a list or one column of texts, not one string and not a table.")
        texts = list(X)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"Row {i} of X is {text!r}, not a string.")
        return texts

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags
