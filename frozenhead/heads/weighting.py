"""How much an example of each class counts in the loss."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.options import is_number, nearest

ClassWeight = Literal["balanced"] | Mapping[Any, float] | None


def class_weights(
    class_weight: ClassWeight,
    classes: NDArray[Any],
    codes: NDArray[np.int64],
    sample_weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Weights (K,) in the order of `classes`.

    Parameters
    ----------
    class_weight : "balanced", None, or mapping of label to weight
        `balanced` is N / (K n_k), as scikit-learn's `compute_class_weight`: rare classes count as much as
        frequent ones; a row counts as often as its weight says. None is 1 for all. A mapping must name every class.
    classes : array (K,)
    codes : int array (N,)
        Positions in `classes`.
    sample_weight : float array (N,), optional

    Raises
    ------
    ValueError
        Another word, a label that is not a class, a class without a weight, or a weight that is not positive.
    """
    if class_weight is None:
        return np.ones(len(classes))
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(
                f"class_weight is {class_weight!r}{nearest(class_weight, ['balanced'])}; "
                "choose 'balanced', None, or a mapping."
            )
        counts = np.bincount(codes, weights=sample_weight, minlength=len(classes))
        return np.asarray(counts.sum() / (len(classes) * counts))
    labels = classes.tolist()
    unknown, lacking = [k for k in class_weight if k not in labels], [k for k in labels if k not in class_weight]
    if unknown or lacking:
        near = nearest(unknown[0], lacking) if unknown else ""
        strange = f"not a class: {', '.join(map(repr, unknown[:5]))}{near}" if unknown else ""
        bare = f"without a weight: {', '.join(map(repr, lacking[:5]))}" if lacking else ""
        raise ValueError(f"class_weight must name every class once; {'; '.join(filter(None, (strange, bare)))}.")
    given = [class_weight[label] for label in labels]
    for label, weight in zip(labels, given, strict=True):
        if not (is_number(weight) and 1e-30 <= weight <= 1e30):  # beyond it float32 has no room for a loss
            raise ValueError(
                f"class_weight must be numbers from 1e-30 to 1e30, got {str(weight)[:40]} for the class {label!r}."
            )
    return np.array(given, np.float64)
