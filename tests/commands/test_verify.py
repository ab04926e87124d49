"""`verify`: passes on what the encoder gave, and fails on anything else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frozenhead.cache import Space, VectorCache
from frozenhead.commands.vectors import run_vectors
from frozenhead.commands.verify import VerifyOptions, verify
from frozenhead.embedder import find_checkpoint
from frozenhead.embedder.plain import PlainEncoder
from frozenhead.errors import CacheDamaged, DataError, UsageError
from frozenhead.heads import Trainer
from frozenhead.runs import Run

QUICK: dict[str, Any] = {"sample": 20, "steps": 6, "device": "cpu"}


def replace_vectors(run: Path, change: Callable[[Any], Any]) -> None:
    """Put other vectors under the same keys: a well-formed shard, rightly named, pinned by the run."""
    record = Run.open(run).features()["tiny-bert.mean"]
    store = VectorCache().space(Space.from_dict(record["identity"]))
    ((keys, vectors, tokens),) = store.rows()
    with store.writer() as writer:
        writer.add(keys, change(vectors.copy()), tokens)
    record["shards"] = writer.committed
    (run / "features" / "tiny-bert.mean.json").write_text(json.dumps(record))


def test_it_passes_for_every_pooling_and_names_the_differences(make_run: Callable[..., Any]) -> None:
    run = Path(make_run(pooling="pooler,cls,mean,max", max_length=8)["run"])
    result = verify(VerifyOptions(run=run, **QUICK))
    assert result["passed"]
    assert [proof["feature"] for proof in result["features"]] == [
        f"tiny-bert.{p}" for p in ("cls", "max", "mean", "pooler")
    ]
    for proof in result["features"]:
        assert proof["vectors"]["rows"] == 20
        assert proof["vectors"]["largest_difference"] < 1e-5
        assert proof["training"]["steps"] == 6
        assert proof["encoder_unchanged"]


@pytest.mark.parametrize(
    "given",
    [{"prefix": "call now: "}, {"layer": -2}, {"normalize": True}, {"layer": 0, "prefix": "win ", "normalize": True}],
)
def test_it_knows_layer_prefix_and_normalisation(make_run: Callable[..., Any], given: dict[str, Any]) -> None:
    run = Path(make_run(pooling="mean", **given)["run"])
    assert verify(VerifyOptions(run=run, **QUICK))["passed"]


def test_a_coarse_space_is_held_to_the_direction_of_its_vectors(make_run: Callable[..., Any]) -> None:
    run = Path(make_run(pooling="mean", precision="bf16")["run"])
    (proof,) = verify(VerifyOptions(run=run, **QUICK))["features"]
    assert proof["passed"]
    assert proof["vectors"]["measure"] == "largest 1 - cosine"
    assert proof["training"]["weight_tolerance"] is None
    assert 0 < proof["vectors"]["largest_difference"] <= proof["vectors"]["tolerance"] == 1e-3
    replace_vectors(run, shuffled)
    assert not verify(VerifyOptions(run=run, **QUICK))["features"][0]["vectors"]["passed"]


def shuffled(vectors: Any) -> Any:
    return np.roll(vectors, 1, axis=0)


def off_by_little(vectors: Any) -> Any:
    return vectors + np.float32(1e-4)


@pytest.mark.parametrize("change", [shuffled, off_by_little])
def test_it_fails_when_a_shard_holds_other_vectors(run: Path, change: Callable[[Any], Any]) -> None:
    replace_vectors(run, change)
    result = verify(VerifyOptions(run=run, features=("tiny-bert.mean",), **QUICK))
    assert not result["passed"]
    assert not result["features"][0]["vectors"]["passed"]
    assert verify(VerifyOptions(run=run, features=("tiny-bert.pooler",), **QUICK))["passed"]


def test_training_on_other_vectors_is_seen_by_itself(run: Path) -> None:
    replace_vectors(run, lambda vectors: vectors * np.float32(1.5))
    training = verify(VerifyOptions(run=run, features=("tiny-bert.mean",), **QUICK))["features"][0]["training"]
    assert not training["passed"]
    assert training["largest_loss_difference"] > 1e-4


def test_altered_bytes_are_damage_before_any_comparison(run: Path) -> None:
    record = Run.open(run).features()["tiny-bert.mean"]
    shard = VectorCache().folder / "v1" / record["space"] / "shards" / f"{record['shards'][0]}.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CacheDamaged):
        verify(VerifyOptions(run=run, **QUICK))


def test_it_says_what_it_cannot_verify(run: Path, make_run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tiny-bert\.men"):
        verify(VerifyOptions(run=run, features=("tiny-bert.men",)))
    with pytest.raises(UsageError, match="--steps"):
        VerifyOptions(run=run, steps=0)
    with pytest.raises(UsageError, match="--seed"):
        VerifyOptions(run=run, seed=-1)
    plain = tmp_path / "plain.csv"
    plain.write_text("text\nhello\n")
    unlabelled = make_run(data=str(plain), out=tmp_path / "plain", corpus={"labelled": False})
    with pytest.raises(DataError, match="labels"):
        verify(VerifyOptions(run=Path(unlabelled["run"])))


def with_some_nan(vectors: Any) -> Any:
    vectors[::5] = np.nan
    return vectors


@pytest.mark.parametrize("seed", range(4))
def test_a_vector_that_is_not_finite_is_never_forgotten(run: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    def spoilt(*args: Any, **given: Any) -> Any:
        return with_some_nan(run_vectors(*args, **given).copy())

    monkeypatch.setattr("frozenhead.commands.verify.run_vectors", spoilt)
    options = VerifyOptions(run=run, features=("tiny-bert.mean",), sample=120, steps=3, seed=seed, device="cpu")
    (proof,) = verify(options)["features"]
    assert not proof["passed"]
    assert proof["vectors"]["largest_difference"] is None
    assert proof["training"]["largest_loss_difference"] is None
    json.dumps(proof, allow_nan=False)


def test_a_difference_in_training_alone_fails_the_proof(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer.step
    calls = iter(range(1000))

    def drifting(self: Trainer, vectors: Any, targets: Any) -> float:
        return step(self, vectors, targets) + (1e-3 if next(calls) == 5 else 0.0)

    monkeypatch.setattr(Trainer, "step", drifting)
    (proof,) = verify(VerifyOptions(run=run, features=("tiny-bert.mean",), **QUICK))["features"]
    assert proof["vectors"]["passed"]
    assert not proof["training"]["passed"]
    assert not proof["passed"]


def test_an_encoder_that_changes_on_the_way_fails_the_proof(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter("ab")
    monkeypatch.setattr(PlainEncoder, "digest", lambda self: next(digests))
    (proof,) = verify(VerifyOptions(run=run, features=("tiny-bert.mean",), **QUICK))["features"]
    assert proof["vectors"]["passed"]
    assert proof["training"]["passed"]
    assert not proof["encoder_unchanged"]
    assert not proof["passed"]


def test_the_digest_sees_a_single_changed_number(tiny_folder: Path) -> None:
    import torch

    encoder = PlainEncoder(find_checkpoint(tiny_folder), device="cpu")
    before = encoder.digest()
    with torch.no_grad():
        next(encoder.model.parameters())[0, 0] += 1e-3
    assert encoder.digest() != before
