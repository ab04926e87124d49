"""Vectors -> labels: torch and scikit-learn heads. Imports no other room: a head knows nothing of encoders."""

from frozenhead.heads.base import Head
from frozenhead.heads.dense import DenseHead
from frozenhead.heads.logistic import LogisticHead
from frozenhead.heads.majority import MajorityHead
from frozenhead.heads.registry import HEADS, head_options, make_head
from frozenhead.heads.saving import load_head, save_head
from frozenhead.heads.softmax import SoftmaxHead, softmax_path
from frozenhead.heads.tfidf import TfidfHead
from frozenhead.heads.training import Trainer, TrainingSettings

__all__ = [
    "HEADS",
    "DenseHead",
    "Head",
    "LogisticHead",
    "MajorityHead",
    "SoftmaxHead",
    "TfidfHead",
    "Trainer",
    "TrainingSettings",
    "head_options",
    "load_head",
    "make_head",
    "save_head",
    "softmax_path",
]
