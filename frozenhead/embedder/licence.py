"""Under which licence an encoder may be used, as far as its own files say it. Nothing is downloaded."""

import importlib.metadata
import importlib.util
import re
from pathlib import Path
from typing import Any

import yaml

from frozenhead.embedder.finding import MINILM, MINILM_PACKAGE
from frozenhead.embedder.modules import MODULES
from frozenhead.files import read_file

README = "README.md"

_FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", re.DOTALL)
_LONGEST_README = 2**20


def stated_licence(model: str, *, commit: str | None = None) -> tuple[str, str] | None:
    """What the encoder's files say of its licence.

    Parameters
    ----------
    model : str
        `minilm`, a checkpoint folder, or a hub id.
    commit : str, optional
        Of the hub.

    Returns
    -------
    (licence, where it is stated), or None if nothing on this machine says it.
    """
    readme = _readme(model, commit)
    licence = _in_readme(readme) if readme else None
    if licence:
        return licence, f"the {README} beside its weights"
    if model == MINILM:
        return _in_package()
    return None


def _readme(model: str, commit: str | None) -> Path | None:
    if model == MINILM:
        spec = importlib.util.find_spec(MINILM_PACKAGE)
        places = spec.submodule_search_locations if spec else None
        return Path(next(iter(places))) / "model" / README if places else None
    if commit is None:
        folder = Path(model)
        below = not (folder / README).exists() and (folder.parent / MODULES).exists()  # weights one level below it
        return (folder.parent if below else folder) / README
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, README, revision=commit)
    return Path(found) if isinstance(found, str) else None


def _in_readme(readme: Path) -> str | None:
    """`license` of a README's front matter, as the Hugging Face hub knows it."""
    try:
        block = _FRONT_MATTER.match(read_file(readme, limit=_LONGEST_README).decode())
        fields: Any = yaml.safe_load(block[1]) if block else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    if not isinstance(fields, dict) or not fields.get("license"):
        return None
    stated = fields["license"]
    named = ", ".join(map(str, stated)) if isinstance(stated, list) else str(stated)
    return f"{named} ({fields['license_name']})" if fields.get("license_name") else named


def _in_package() -> tuple[str, str] | None:
    try:
        about = importlib.metadata.metadata(MINILM_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    stated = next((about[field] for field in ("License-Expression", "License") if field in about), None)
    return (stated, "the package that carries it") if stated else None
