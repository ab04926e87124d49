"""The heads by the names that commands use."""

import inspect
from collections.abc import Mapping
from typing import Any

from frozenhead.heads.base import Head
from frozenhead.heads.centroid import CentroidHead
from frozenhead.heads.dense import DenseHead
from frozenhead.heads.knn import KnnHead
from frozenhead.heads.logistic import LogisticHead
from frozenhead.heads.majority import MajorityHead
from frozenhead.heads.options import nearest
from frozenhead.heads.ridge import RidgeHead
from frozenhead.heads.shuffled import ShuffledHead
from frozenhead.heads.softmax import SoftmaxHead
from frozenhead.heads.svm import SvmHead
from frozenhead.heads.tfidf import TfidfHead
from frozenhead.heads.weighting import ClassWeight

__all__ = ["HEADS", "head_options", "make_head", "nearest"]

HEADS: dict[str, type[Head]] = {
    "dense": DenseHead,
    "softmax": SoftmaxHead,
    "logreg": LogisticHead,
    "svm": SvmHead,
    "ridge": RidgeHead,
    "centroid": CentroidHead,
    "knn": KnnHead,
    "tfidf": TfidfHead,
    "majority": MajorityHead,
    "shuffled": ShuffledHead,
}


def head_options(name: str) -> dict[str, Any]:
    """The options a head takes by `--set`, with their defaults. Class weights and seed are set for all heads."""
    signature = inspect.signature(HEADS[name].__init__)
    options = {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    return {k: v for k, v in options.items() if k not in ("class_weight", "random_state")}


def make_head(name: str, *, class_weight: ClassWeight, seed: int, options: Mapping[str, Any]) -> Head:
    """An unfitted head.

    Raises
    ------
    ValueError
        No such head, or an option it does not take; the nearest right names are offered.
    """
    if name not in HEADS:
        raise ValueError(f"There is no head {name!r}{nearest(name, HEADS)}. The heads: {', '.join(HEADS)}.")
    known = head_options(name)
    for option in options:
        if option not in known:
            takes = f"It takes {', '.join(known)}." if known else "It takes none."
            raise ValueError(f"{name} has no option {option!r}{nearest(option, known)}. {takes}")
    kind = HEADS[name]
    names = set(kind().get_params())
    shared = {"class_weight": class_weight, "random_state": seed}
    return kind(**options, **{k: v for k, v in shared.items() if k in names})
