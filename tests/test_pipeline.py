"""`load_pipeline`: what it takes for a head, and which encoder it asks for; more in commands/test_export.py."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from frozenhead import load_pipeline, pipeline
from frozenhead.errors import HeadNotFound, RunDamaged, SpaceMismatch
from frozenhead.heads import LogisticHead, save_head
from frozenhead.pipeline import recorded_checkpoint
from tests.cache.examples import make_space
from tests.commands.shipping import edit_head, make_trained_run, ship


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    return make_trained_run(tmp_path_factory.mktemp("trained"), tiny_folder, heads=("logreg", "tfidf"))


def test_a_head_of_a_run_is_loaded_from_its_folder_with_its_own_encoder(trained: Path) -> None:
    loaded = load_pipeline(trained / "heads" / "tiny-bert.mean" / "logreg", device="cpu")
    assert [name for name, _ in loaded.steps] == ["embed", "head"]
    assert set(loaded.predict(["win a prize", "the cat sat"])) <= {"ham", "spam"}


def test_a_head_that_reads_texts_stands_alone(trained: Path, tmp_path: Path) -> None:
    ship(trained, tmp_path / "out", "tfidf")
    loaded = load_pipeline(tmp_path / "out")
    assert [name for name, _ in loaded.steps] == ["head"]
    assert loaded.predict(["win a free prize", "the cat sat"]).tolist() == ["spam", "ham"]


def test_a_copy_of_a_pipeline_refuses_other_vectors_too(
    trained: Path, tmp_path: Path, tiny_folder: Path, make_checkpoint: Any
) -> None:
    ship(trained, tmp_path / "out", "logreg")
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "tiny-bert"))
    embed = clone(load_pipeline(tmp_path / "out", model=folder, device="cpu")).named_steps["embed"]
    assert embed.transform(["win"]).shape == (1, 16)
    shutil.copy(make_checkpoint(tmp_path / "other", seed=1) / "model.safetensors", folder)
    with pytest.raises(SpaceMismatch):
        embed.transform(["win"])


def test_what_holds_no_head_is_refused(trained: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "gone", trained):
        with pytest.raises(HeadNotFound, match=r"RUN/heads/<feature>/<head>"):
            load_pipeline(folder)


@pytest.mark.parametrize("lost", ["takes", "space", "encoder"])
def test_a_head_that_does_not_say_what_it_takes_is_damaged(trained: Path, tmp_path: Path, lost: str) -> None:
    folder = Path(shutil.copytree(trained / "heads" / "tiny-bert.mean" / "logreg", tmp_path / "head"))
    edit_head(folder, lambda content: content.pop(lost))
    with pytest.raises(RunDamaged, match="frozenhead fit"):
        load_pipeline(folder)


def test_a_head_saved_without_a_run_is_damaged_not_a_crash(tmp_path: Path) -> None:
    head = LogisticHead().fit(np.eye(4, dtype=np.float32), ["a", "b", "a", "b"])
    save_head(head, tmp_path)
    with pytest.raises(RunDamaged, match="what the head takes"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize(
    ("model", "asked"),
    [(None, ("org/bert", "abc")), ("org/bert", ("org/bert", "abc")), ("org/other", ("org/other", None))],
)
def test_the_commit_is_asked_for_where_it_belongs(
    monkeypatch: pytest.MonkeyPatch, model: str | None, asked: tuple[str, str | None]
) -> None:
    space, heard = make_space(), []

    class Found:
        files = space.files

    def find(name: str, *, revision: str | None) -> type[Found]:
        heard.append((name, revision))
        return Found

    monkeypatch.setattr(pipeline, "find_checkpoint", find)
    encoder = {"name": "bert", "model": "org/bert", "commit": "abc", "revision": "main"}
    assert recorded_checkpoint(encoder, space, "head", model=model) is Found  # type: ignore[comparison-overlap]
    assert heard == [asked]
