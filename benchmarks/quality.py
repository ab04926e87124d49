"""Are the vectors right? The least cosine to a reference, and how well a head does on them."""

import numpy as np
from numpy.typing import NDArray

FOLDS = 5


def least_cosine(vectors: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """The least cosine between a row of one and the same row of the other, in float64."""
    a, b = vectors.astype(np.float64), reference.astype(np.float64)
    return float(((a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))).min())


def head_predictions(vectors: NDArray[np.float32], labels: list[str]) -> NDArray[np.str_]:
    """Labels that a ridge classifier predicts for each text, trained on the other folds; the folds are the same for
    all contestants."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import KFold, cross_val_predict

    # In closed form, and without a scaler: MiniLM has a dimension of about 1e-32, which a scaler would blow up in fp32.
    folds = KFold(FOLDS, shuffle=True, random_state=2018)
    return np.asarray(cross_val_predict(RidgeClassifier(alpha=1.0), vectors.astype(np.float64), labels, cv=folds))
