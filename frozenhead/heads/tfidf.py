"""TF-IDF with logistic regression on the texts: the baseline that no encoder may lose to unnoticed."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from frozenhead.heads.base import Head, softmax
from frozenhead.heads.linear import two_columns
from frozenhead.heads.options import check_whole
from frozenhead.heads.targets import checked_labels
from frozenhead.heads.weighting import ClassWeight


class TfidfHead(Head):
    """Words and pairs of words, TF-IDF with sublinear counts, logistic regression.

    Parameters
    ----------
    ngrams : int, default 2
        Longest run of words that is a term.
    min_df : int, default 1
        Texts a term must stand in; with sample weights, their sum.
    C : float, default 10.0
        Inverse strength of the penalty, against a sum over rows.
    max_iter : int, default 2000
        Most L-BFGS iterations.
    tol : float, default 1e-4
        Stop when no component of the gradient is larger.
    class_weight : "balanced", None, or mapping of label to weight, default "balanced"

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
        tol: float = 1e-4,
        class_weight: ClassWeight = "balanced",
    ) -> None:
        self.ngrams = ngrams
        self.min_df = min_df
        self.C = C
        self.max_iter = max_iter
        self.tol = tol
        self.class_weight = class_weight

    def _fit(
        self,
        X: list[str],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: Any,  # noqa: ARG002
    ) -> None:
        check_whole("ngrams", self.ngrams)
        check_whole("min_df", self.min_df)
        counter = CountVectorizer(ngram_range=(1, self.ngrams), dtype=np.float64)
        counts = counter.fit_transform(X)  # (N, V)
        rows = weights / self.class_weights_[codes]  # a term is as frequent as the rows it stands in count
        texts = rows @ (counts > 0)  # (V,)
        kept = texts >= self.min_df * (1 - 1e-9)  # the quotient may lack a last digit
        if not kept.any():
            raise ValueError(f"No term stands in {self.min_df} texts; lower min_df.")
        self.vocabulary_ = counter.get_feature_names_out()[kept].tolist()
        self.idf_ = np.log((1 + rows.sum()) / (1 + texts[kept])) + 1  # scikit-learn's, with weights
        weighting = TfidfTransformer(sublinear_tf=True)
        weighting.idf_ = self.idf_
        terms = weighting.transform(counts[:, kept], copy=False)
        model = LogisticRegression(C=self.C, max_iter=self.max_iter, tol=self.tol).fit(terms, codes, weights)
        self.coef_, self.intercept_ = model.coef_, model.intercept_
        self.n_iter_ = int(model.n_iter_.max())
        self._index()

    def _probabilities(self, X: list[str]) -> NDArray[np.float64]:
        return softmax(self._logits(X))

    def _logits(self, X: list[str]) -> NDArray[np.float64]:
        return two_columns(self._vectorizer.transform(X) @ self.coef_.T + self.intercept_)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`coef`, `intercept`, `idf`, and `vocabulary`: the terms in UTF-8, a line each, as uint8."""
        terms = np.frombuffer("\n".join(self.vocabulary_).encode(), np.uint8)
        return {"coef": self.coef_, "intercept": self.intercept_, "idf": self.idf_, "vocabulary": terms}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self.vocabulary_ = arrays["vocabulary"].tobytes().decode().split("\n")
        self.idf_ = arrays["idf"]
        self.coef_, self.intercept_ = arrays["coef"], arrays["intercept"]
        self._index()

    def _index(self) -> None:
        """Make what prediction computes with from the learned arrays."""
        self._vectorizer = TfidfVectorizer(ngram_range=(1, self.ngrams), sublinear_tf=True, vocabulary=self.vocabulary_)
        self._vectorizer.idf_ = self.idf_

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
