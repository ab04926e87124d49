"""The commands that make a head again: from what the run and the head recorded, not from what was typed.

What was typed may say `auto`, which another machine understands otherwise, and names folders that are nobody's
business: here every choice is spelt out, and files and folders stand without their places.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from frozenhead.commands.choices import LAYERS
from frozenhead.embedder.finding import MINILM
from frozenhead.heads import head_options
from frozenhead.shell import joined

RUN = "run"
WEIGHTS_FILE = "weights.json"
STANDARD_INPUT = "-"


def file_name(path: str) -> str:
    """The last part of a path, whichever system wrote it: `spam.csv` of `C:\\texts\\spam.csv`."""
    return PureWindowsPath(PurePosixPath(path).name).name or path


def is_local(encoder: Mapping[str, Any]) -> bool:
    """Whether a recorded encoder is a folder on the machine that recorded it: neither a package nor on the hub."""
    return encoder["commit"] is None and encoder["model"] != MINILM


def embed_command(run: Mapping[str, Any], record: Mapping[str, Any] | None) -> str:
    """The command line that makes the run with this feature set.

    Parameters
    ----------
    run : mapping
        `run.json`.
    record : mapping, optional
        `features/<name>.json`; without one the encoder is left to its default.
    """
    words = ["frozenhead", "embed", *_data(run), *(_encoder(record) if record else ()), "--out", RUN]
    return joined(words)


def _data(run: Mapping[str, Any]) -> Iterator[str]:
    columns, options = run["columns"], run.get("options", {})
    files = _files(run["sources"])
    yield files.get("data", STANDARD_INPUT)
    for option, name in (("--text", "text"), ("--label", "label"), ("--split-column", "split")):
        if columns.get(name):
            yield from (option, str(columns[name]))
    for role in ("val", "test"):
        if role in files:
            yield from (f"--{role}", files[role])
    for name in ("split", "seed"):  # also beside a column or files: splits that these lack are cut by shares
        if name in options:
            yield from (f"--{name}", str(options[name]))
    if options.get("split_by", "stratified") != "stratified":
        yield from ("--split-by", options["split_by"])
    if options.get("group_duplicates"):
        yield "--group-duplicates"
    for name, default in (("format", None), ("encoding", "utf-8"), ("delimiter", None)):
        if options.get(name) not in (None, default):
            yield from (f"--{name}", str(options[name]))


def _files(sources: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The file, or the folder of several, that the rows of each role came from."""
    paths: dict[str, list[str]] = {}
    for source in sources:
        paths.setdefault(source["role"], []).append(source["path"])
    return {
        role: file_name(own[0]) if len(own) == 1 else PureWindowsPath(own[0]).parent.name or own[0]
        for role, own in paths.items()
    }


def _encoder(record: Mapping[str, Any]) -> Iterator[str]:
    encoder, space = record["encoder"], record["identity"]
    model = encoder["model"]
    yield from ("--model", file_name(model) if is_local(encoder) else model)
    if encoder["commit"]:
        yield from ("--revision", encoder["commit"])
    if encoder["name"] != file_name(model):
        yield from ("--name", encoder["name"])
    yield from ("--pooling", space["pooling"])
    if space.get("layer", -1) != -1:
        yield from ("--layer", str(space["layer"]))
    if space.get("prefix"):
        yield from ("--prefix", space["prefix"])
    if space.get("normalize"):
        yield "--normalize"
    yield from ("--max-length", str(space["max_length"]))
    if space.get("long", "cut") != "cut":
        yield from ("--long", space["long"])
    yield from ("--precision", space["precision"])
    if views := record.get("views"):
        yield from ("--views", str(len(views)), "--view-seed", str(views[0]["identity"]["view"]["seed"]))


def fit_command(description: Mapping[str, Any]) -> str:
    """The command line that trains the head on that run, from its `head.json`."""
    head, params = description["head"], description["params"]
    words = ["frozenhead", "fit", RUN, "--head", head]
    if description["takes"] == "vectors":
        words += ["--features", description["feature"]]
    if "class_weight" in params:
        given = params["class_weight"]
        words += ["--class-weight", "none" if given is None else given if isinstance(given, str) else WEIGHTS_FILE]
    if description.get("seed") is not None:
        words += ["--seed", str(description["seed"])]
    for name, default in head_options(head).items():
        if name in params and _value(params[name]) != _value(default):
            words += ["--set", f"{name}={_value(params[name])}"]
    if description.get("views"):
        words.append("--views")
    return joined([*words, *_decision(description.get("decision") or {})])


def _decision(decision: Mapping[str, Any]) -> Iterator[str]:
    """Calibration and threshold."""
    if decision.get("temperature") is False:
        yield from ("--calibrate", "none")
    if rule := decision.get("threshold"):
        numbers = rule.get("costs") or ([rule["floor"]] if rule.get("floor") is not None else [])
        yield from ("--threshold", ":".join([rule["by"], *(f"{number:g}" for number in numbers)]))
        if rule.get("positive") is not None:
            yield from ("--positive", str(rule["positive"]))


def _value(value: Any) -> str:
    """An option as `--set` takes it."""
    if isinstance(value, list | tuple):
        return LAYERS.join(map(str, value)) or "0"
    return "none" if value is None else str(value)
