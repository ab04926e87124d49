"""How a dense head is trained: its layers, its loss, its optimiser. The defaults are the reference's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np

from frozenhead.heads.options import MOST, check_word, is_number

Activation = Literal["relu", "gelu", "tanh"]
Schedule = Literal["constant", "linear", "cosine"]
Loss = Literal["cross_entropy", "focal"]

WORDS = {"activation": get_args(Activation), "schedule": get_args(Schedule), "loss": get_args(Loss)}
"""The options that are words, and the words each takes."""

LEAST = {
    "epochs": (1, True), "batch_size": (1, True), "patience": (0, True), "seed": (0, True),
    "weight_decay": (0, False), "focal_gamma": (0, False),
}  # fmt: skip
"""The least value of options without a greatest, and whether they are whole numbers."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a dense head is trained. The defaults are the reference's.

    Parameters
    ----------
    hidden : int or sequence of int, default (512,)
        Units of each hidden layer, the first one first, at most 65,536; an int is one layer, `()` none: softmax
        regression.
        Held as a tuple.
    activation : "relu", "gelu" or "tanh", default "relu"
        Of the hidden units; gelu is x Phi(x), not its approximation.
    dropout : float in [0, 1), default 0.1
        Share of the units of each hidden layer set to 0 in training, to the nearest 1/65536.
    lr : float, default 1e-3
        Learning rate, the highest of the schedule.
    beta1, beta2, eps : float, default 0.9, 0.999, 1e-6
        AdamW's averages and the term that keeps its denominator from 0.
    weight_decay : float, default 0
        Decoupled decay of the weight matrices and biases per step, times lr.
    epochs : int, default 10
        Passes over the rows.
    batch_size : int, default 32
        Rows per step.
    clip_norm : float, default 1
        Longest gradient, all parameters together; longer ones are scaled to it.
    schedule : "constant", "linear" or "cosine", default "constant"
        What lr does over all steps of all epochs after the warm-up: stays, or falls to 0 in a line or half a cosine.
        The first step after the warm-up has lr, and the one that would follow the last has 0.
    warmup : float in [0, 1), default 0
        Share of all steps in which lr first rises in a line.
    patience : int, default 0
        Epochs in a row without a lower validation loss after which training stops; 0 is never. Without validation
        rows nothing stops.
    loss : "cross_entropy" or "focal", default "cross_entropy"
        See `losses`.
    focal_gamma : float, default 2
        Of the focal loss: the larger, the less a row counts that is already right. 0 is the cross-entropy.
    label_smoothing : float in [0, 1), default 0
        Share of each row's target that is spread over all classes.
    seed : int, default 0
        Decides the initial weights, the order of rows and the dropout masks.
    """

    hidden: int | Sequence[int] = (512,)
    activation: Activation = "relu"
    dropout: float = 0.1
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.0
    epochs: int = 10
    batch_size: int = 32
    clip_norm: float = 1.0
    schedule: Schedule = "constant"
    warmup: float = 0.0
    patience: int = 0
    loss: Loss = "cross_entropy"
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", _layers(self.hidden))
        for name, (least, whole) in LEAST.items():
            value = getattr(self, name)
            if not (_is_whole(value) if whole else is_number(value)) or value < least:
                kind = "a whole number of at least" if whole else "finite and at least"
                raise ValueError(f"{name} must be {kind} {least}, got {value!r}.")
        for name in ("lr", "eps", "clip_norm"):
            if not is_number(getattr(self, name)) or not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0 and finite, got {getattr(self, name)!r}.")
        for name in ("dropout", "beta1", "beta2", "warmup", "label_smoothing"):
            if not is_number(getattr(self, name)) or not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)!r}.")
        for name, words in WORDS.items():
            check_word(name, getattr(self, name), words)
        for field in fields(self):  # numpy's numbers as Python's
            if field.type in (int, float):
                object.__setattr__(self, field.name, field.type(getattr(self, field.name)))

    @property
    def layers(self) -> tuple[int, ...]:
        """`hidden` as the tuple it is held as."""
        return tuple(self.hidden) if isinstance(self.hidden, Sequence) else (self.hidden,)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 1, of all `steps`."""
        done, rising = step - 1, math.floor(self.warmup * steps)
        if done < rising:
            return self.lr * (done + 1) / (rising + 1)
        share = (done - rising) / (steps - rising)  # of the fall, 0 to below 1
        if self.schedule == "linear":
            return self.lr * (1 - share)
        return self.lr * (1 + math.cos(math.pi * share)) / 2 if self.schedule == "cosine" else self.lr


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value <= MOST)


MOST_UNITS = 2**16
"""Of a hidden layer: with 768 inputs it has 50 million weights, of which training holds four copies."""


def _layers(hidden: object) -> tuple[int, ...]:
    units = (hidden,) if _is_whole(hidden) else hidden
    right = isinstance(units, list | tuple) and all(_is_whole(n) and n >= 1 for n in units)
    if not right or not isinstance(units, list | tuple):
        raise ValueError(f"hidden must be a whole number of at least 1, or a list of them, got {hidden!r}.")
    if max(units, default=0) > MOST_UNITS:
        raise ValueError(f"hidden must be at most {MOST_UNITS:,} units a layer, got {hidden!r}.")
    return tuple(int(n) for n in units)
