"""Vectors -> labels: torch and scikit-learn heads. Imports no other room: a head knows nothing of encoders."""

from frozenhead.heads.base import Head
from frozenhead.heads.calibration import Threshold, ThresholdRule
from frozenhead.heads.centroid import CentroidHead
from frozenhead.heads.dense import DenseHead
from frozenhead.heads.fitting import FittedHead, estimate_seconds, fit_many
from frozenhead.heads.knn import KnnHead
from frozenhead.heads.logistic import LogisticHead
from frozenhead.heads.majority import MajorityHead
from frozenhead.heads.registry import HEADS, head_options, make_head
from frozenhead.heads.ridge import RidgeHead
from frozenhead.heads.saving import load_head, save_head
from frozenhead.heads.settings import TrainingSettings
from frozenhead.heads.shuffled import ShuffledHead
from frozenhead.heads.softmax import SoftmaxHead, softmax_path
from frozenhead.heads.stored import StoredRows
from frozenhead.heads.svm import SvmHead
from frozenhead.heads.tfidf import TfidfHead
from frozenhead.heads.training import Trainer

__all__ = [
    "HEADS",
    "CentroidHead",
    "DenseHead",
    "FittedHead",
    "Head",
    "KnnHead",
    "LogisticHead",
    "MajorityHead",
    "RidgeHead",
    "ShuffledHead",
    "SoftmaxHead",
    "StoredRows",
    "SvmHead",
    "TfidfHead",
    "Threshold",
    "ThresholdRule",
    "Trainer",
    "TrainingSettings",
    "estimate_seconds",
    "fit_many",
    "head_options",
    "load_head",
    "make_head",
    "save_head",
    "softmax_path",
]
