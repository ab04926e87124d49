"""Are the vectors right? The least cosine to a reference, and how well a head does on them."""

import numpy as np
from numpy.typing import NDArray

FOLDS = 5


def least_cosine(vectors: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """The least cosine between a row of one and the same row of the other, in float64."""
    a, b = vectors.astype(np.float64), reference.astype(np.float64)
    return float(((a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))).min())


def head_predictions(vectors: NDArray[np.float32], labels: list[str]) -> NDArray[np.str_]:
    """Labels that logistic regression predicts for each text, trained on the other folds; the folds are the same for
    all contestants."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    folds = KFold(FOLDS, shuffle=True, random_state=2018)
    return np.asarray(cross_val_predict(head, vectors.astype(np.float64), labels, cv=folds))  # float16 would stay it
