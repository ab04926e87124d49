"""The reference's head: one hidden layer with dropout, trained on a class-weighted loss, the best epoch kept."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.heads.base import BLOCK, Head, softmax
from frozenhead.heads.threads import one_thread
from frozenhead.heads.training import Trainer, TrainingSettings
from frozenhead.heads.weighting import ClassWeight


class DenseHead(Head):
    """Linear, ReLU, dropout, linear, softmax; weighted cross-entropy; AdamW.

    Parameters
    ----------
    hidden : int
        Units of the hidden layer.
    dropout : float
        Share of hidden units dropped in training, in [0, 1).
    lr : float
        Learning rate.
    epochs : int
    batch_size : int
        Rows per step.
    weight_decay : float
        Decoupled weight decay.
    eps, beta1, beta2 : float
        Of AdamW; the defaults are those of the reference, not torch's.
    clip_norm : float
        Longest gradient.
    class_weight : "balanced", None, or mapping of label to weight
    random_state : int
        Seed of weights, order and dropout.

    Attributes
    ----------
    coefs_ : list of float32 arrays
        W1 (D, hidden) and W2 (hidden, K).
    intercepts_ : list of float32 arrays
        b1 (hidden,) and b2 (K,).
    history_, best_epoch_, classes_, class_weights_
        See `Head`. With validation rows the epoch with the lowest validation loss is kept, without them the last.
    """

    def __init__(
        self,
        *,
        hidden: int = 512,
        dropout: float = 0.1,
        lr: float = 1e-3,
        epochs: int = 10,
        batch_size: int = 32,
        weight_decay: float = 0.0,
        eps: float = 1e-6,
        beta1: float = 0.9,
        beta2: float = 0.999,
        clip_norm: float = 1.0,
        class_weight: ClassWeight = "balanced",
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.eps = eps
        self.beta1 = beta1
        self.beta2 = beta2
        self.clip_norm = clip_norm
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
        trainer = Trainer(
            dim=X.shape[1], n_classes=len(self.classes_), weights=self.class_weights_, settings=self.settings()
        )
        with one_thread():
            self._train(trainer, X, codes, weights.astype(np.float32), validation)

    def _train(
        self,
        trainer: Trainer,
        X: NDArray[np.float32],
        codes: NDArray[np.int64],
        weights: NDArray[np.float32],
        validation: tuple[NDArray[np.float32], NDArray[np.int64]] | None,
    ) -> None:
        import torch

        held = None if validation is None else (_tensor(validation[0]), torch.from_numpy(validation[1]))
        lowest, best = np.inf, trainer.snapshot()
        for epoch in range(1, self.epochs + 1):
            losses = [
                trainer.step(*(torch.from_numpy(part[rows]) for part in (X, codes, weights)))  # copies of 32 rows
                for rows in (batch.numpy() for batch in trainer.batches(len(codes)))
            ]
            val_loss = None if held is None else trainer.evaluate(*held)
            finite = all(bool(p.isfinite().all()) for p in trainer.parameters)
            if not (finite and np.isfinite([*losses, val_loss or 0.0]).all()):
                raise ValueError(f"The loss is no longer finite in epoch {epoch}; lower lr (now {self.lr}).")
            self.history_.append({"epoch": epoch, "train_loss": float(np.mean(losses)), "val_loss": val_loss})
            if val_loss is None or val_loss < lowest:
                lowest = np.inf if val_loss is None else val_loss
                best, self.best_epoch_ = trainer.snapshot(), epoch
        self._keep(best)

    def _keep(self, parameters: list[NDArray[np.float32]]) -> None:
        first, first_bias, second, second_bias = parameters
        self.coefs_ = [first, second]
        self.intercepts_ = [first_bias, second_bias]

    def _probabilities(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        (first, second), (first_bias, second_bias) = self.coefs_, self.intercepts_
        blocks = []
        for i in range(0, len(X), BLOCK):
            hidden = np.maximum(X[i : i + BLOCK] @ first + first_bias, 0)  # (BLOCK, hidden)
            blocks.append(softmax(hidden @ second + second_bias))
        return np.concatenate(blocks)  # (N, K)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """`w1`, `b1`, `w2`, `b2`."""
        names = ("w1", "w2"), ("b1", "b2")
        return dict(zip(names[0], self.coefs_, strict=True)) | dict(zip(names[1], self.intercepts_, strict=True))

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        self._keep([arrays[name] for name in ("w1", "b1", "w2", "b2")])
        self.n_features_in_ = self.coefs_[0].shape[0]


def _tensor(X: NDArray[np.float32]) -> Any:
    """A tensor that shares memory with X; a read-only map is copied, since torch has no read-only tensors."""
    import torch

    return torch.from_numpy(X if X.flags.writeable else X.copy())
