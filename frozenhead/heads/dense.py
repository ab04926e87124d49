"""Multilayer perceptrons on fixed vectors; the reference's head is the default.

One hidden layer with dropout, trained on a class-weighted loss, the best epoch kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.base import BLOCK, Head, softmax
from frozenhead.heads.learner import Outcome, Task
from frozenhead.heads.many import train_heads
from frozenhead.heads.network import scores
from frozenhead.heads.settings import Activation, Loss, Schedule, TrainingSettings
from frozenhead.heads.weighting import ClassWeight


class DenseHead(Head):
    """Hidden layers with dropout, softmax; weighted cross-entropy or focal loss; AdamW.

    Parameters
    ----------
    hidden : int or sequence of int, default (512,)
        Units of each hidden layer, the first one first; an int is one layer, `()` none.
    activation : "relu", "gelu" or "tanh", default "relu"
        Of the hidden units.
    dropout : float in [0, 1), default 0.1
        Share of the units of each hidden layer dropped in training.
    lr : float, default 1e-3
        Learning rate, the highest of the schedule.
    epochs : int, default 10
        Passes over the rows.
    batch_size : int, default 32
        Rows per step.
    weight_decay : float, default 0
        Decoupled decay of weights and biases per step, times lr.
    eps, beta1, beta2 : float, default 1e-6, 0.9, 0.999
        Of AdamW; the defaults are those of the reference, not torch's.
    clip_norm : float, default 1
        Longest gradient; longer ones are scaled to it.
    schedule : "constant", "linear" or "cosine", default "constant"
        Whether lr stays or falls to 0 over all steps.
    warmup : float in [0, 1), default 0
        Share of all steps in which lr first rises.
    patience : int, default 0
        Epochs in a row without a lower validation loss after which training stops; 0 is never. Without validation
        rows nothing stops.
    loss : "cross_entropy" or "focal", default "cross_entropy"
    focal_gamma : float, default 2
        Of the focal loss: the larger, the less a row counts that is already right.
    label_smoothing : float in [0, 1), default 0
        Share of each row's target that is spread over all classes.
    class_weight : "balanced", None, or mapping of label to weight, default "balanced"
    random_state : int, default 0
        Seed of weights, order and dropout.

    Attributes
    ----------
    coefs_ : list of float32 arrays
        W1 (D, units), W2, ... up to (units, K).
    intercepts_ : list of float32 arrays
        b1 (units,), b2, ... up to (K,).
    history_, best_epoch_, classes_, class_weights_
        See `Head`. With validation rows the epoch with the lowest validation loss is kept, without them the last.
        The validation loss is the weighted cross-entropy, whichever loss is trained on.
    """

    copies = 0

    def __init__(
        self,
        *,
        hidden: int | Sequence[int] = (512,),
        activation: Activation = "relu",
        dropout: float = 0.1,
        lr: float = 1e-3,
        epochs: int = 10,
        batch_size: int = 32,
        weight_decay: float = 0.0,
        eps: float = 1e-6,
        beta1: float = 0.9,
        beta2: float = 0.999,
        clip_norm: float = 1.0,
        schedule: Schedule = "constant",
        warmup: float = 0.0,
        patience: int = 0,
        loss: Loss = "cross_entropy",
        focal_gamma: float = 2.0,
        label_smoothing: float = 0.0,
        class_weight: ClassWeight = "balanced",
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.eps = eps
        self.beta1 = beta1
        self.beta2 = beta2
        self.clip_norm = clip_norm
        self.schedule = schedule
        self.warmup = warmup
        self.patience = patience
        self.loss = loss
        self.focal_gamma = focal_gamma
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.random_state = random_state

    def settings(self) -> TrainingSettings:
        """The training settings these parameters stand for. Raises `ValueError` for a wrong one."""
        named = {k: v for k, v in self.get_params().items() if k not in ("class_weight", "random_state")}
        return TrainingSettings(**named, seed=self.random_state)

    def _fit(
        self,
        X: NDArray[np.float32],
        codes: NDArray[np.int64],
        weights: NDArray[np.float64],
        validation: tuple[NDArray[np.float32], NDArray[np.int64]] | None,
    ) -> None:
        counts = weights / self.class_weights_[codes]
        task = self.task(row_weights=None if (counts == 1).all() else counts)
        (outcome,) = train_heads(X, codes, [task], n_classes=len(self.classes_), validation=validation)
        if outcome.error:
            raise ValueError(outcome.error)
        self.adopt(outcome)

    def task(
        self,
        *,
        rows: NDArray[np.int64] | None = None,
        row_weights: NDArray[np.float64] | None = None,
        views: Sequence[Any] = (),
    ) -> Task:
        """What `train_heads` is to train; the classes are known. Raises `ValueError` for a wrong option."""
        return Task(
            settings=self.settings(), class_weights=self.class_weights_, rows=rows, row_weights=row_weights, views=views
        )

    def adopt(self, outcome: Outcome) -> None:
        """Become the head that was trained."""
        self.history_, self.best_epoch_ = outcome.history, outcome.best_epoch
        self._keep(outcome.parameters)

    def _keep(self, parameters: Sequence[NDArray[np.float32]]) -> None:
        self.coefs_, self.intercepts_ = list(parameters[::2]), list(parameters[1::2])

    def _probabilities(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        parameters = [part for layer in zip(self.coefs_, self.intercepts_, strict=True) for part in layer]
        blocks = [softmax(scores(X[i : i + BLOCK], parameters, self.activation)) for i in range(0, len(X), BLOCK)]
        return np.concatenate(blocks)  # (N, K)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`w1`, `b1`, `w2`, `b2`, ..., a pair for each layer."""
        layers = enumerate(zip(self.coefs_, self.intercepts_, strict=True), start=1)
        return {f"{letter}{i}": part for i, layer in layers for letter, part in zip("wb", layer, strict=True)}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        layers = len(self.settings().layers) + 1
        self._keep([arrays[f"{letter}{i}"] for i in range(1, layers + 1) for letter in "wb"])
        self.n_features_in_ = self.coefs_[0].shape[0]
