"""Settings check themselves, name the right word for a wrong one, and say the learning rate of each step."""

import math
from typing import Any

import numpy as np
import pytest

from frozenhead.heads import TrainingSettings
from tests.heads.twins import rate


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", 0), ("hidden", 2.0), ("hidden", True), ("hidden", "64"), ("hidden", (8, 0)), ("hidden", [3.0]),
        ("hidden", None), ("hidden", 10**11), ("epochs", 10**400), ("lr", 10**400),
        ("epochs", 0), ("epochs", "3"), ("batch_size", -1), ("patience", -1), ("patience", 1.5),
        ("lr", 0.0), ("lr", math.nan), ("lr", math.inf), ("lr", "fast"), ("eps", 0.0), ("clip_norm", -1.0),
        ("clip_norm", math.inf), ("dropout", 1.0), ("dropout", -0.1), ("beta1", 1.0), ("beta2", 1.5),
        ("beta2", math.nan), ("weight_decay", -1e-9), ("weight_decay", math.nan), ("focal_gamma", -1),
        ("focal_gamma", math.inf), ("label_smoothing", 1), ("warmup", 1.0), ("warmup", True), ("seed", -1),
        ("seed", None), ("seed", 1.0), ("activation", None), ("loss", 1), ("schedule", ["linear"]),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        TrainingSettings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("activation", "relo", "relu"),
        ("schedule", "cosin", "cosine"),
        ("loss", "cross-entropy", "cross_entropy"),
        ("loss", "Focal", "focal"),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest_right_one(name: str, wrong: str, right: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is '{wrong}' \\(did you mean '{right}'\\?\\)"):
        TrainingSettings(**{name: wrong})  # type: ignore[arg-type]


def test_a_word_like_no_other_is_answered_with_all() -> None:
    with pytest.raises(ValueError, match="activation is 'zzz'; choose 'relu', 'gelu', 'tanh'"):
        TrainingSettings(activation="zzz")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hidden", "layers"),
    [(64, (64,)), ((64,), (64,)), ([512, 256], (512, 256)), ((), ()), ([], ()), (np.int64(3), (3,))],
)
def test_hidden_is_a_list_of_layers(hidden: Any, layers: tuple[int, ...]) -> None:
    settings = TrainingSettings(hidden=hidden)
    assert settings.hidden == settings.layers == layers
    assert settings == TrainingSettings(hidden=layers)
    assert hash(settings) == hash(TrainingSettings(hidden=layers))


def test_numpys_numbers_are_held_as_pythons() -> None:
    settings = TrainingSettings(hidden=np.int64(3), lr=np.float32(0.5), seed=np.int64(1), dropout=0)  # type: ignore[arg-type]
    assert settings == TrainingSettings(hidden=3, lr=0.5, seed=1, dropout=0.0)
    assert [type(v) for v in (settings.layers[0], settings.lr, settings.seed, settings.dropout)] == [int, float] * 2


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.55])
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_the_rate_rises_to_lr_and_falls_to_nothing(schedule: Any, warmup: float, steps: int) -> None:
    settings = TrainingSettings(schedule=schedule, warmup=warmup, lr=0.5)
    rates = [settings.rate(step, steps) for step in range(1, steps + 1)]
    assert rates == pytest.approx([rate(settings, step, steps) for step in range(1, steps + 1)], abs=1e-12)
    top = math.floor(warmup * steps)
    assert rates[top] == max(rates) == 0.5
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates) > 0
    if schedule != "constant":
        assert settings.rate(steps + 1, steps) == pytest.approx(0, abs=1e-12)
