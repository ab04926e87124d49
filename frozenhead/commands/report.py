"""`report`: score every head of a run, and write the evidence as JSON and as a page."""

from pathlib import Path
from typing import Any

from frozenhead.errors import DataError
from frozenhead.files import write_file, write_json
from frozenhead.heads.saving import read_description
from frozenhead.report import HeadEvidence, draw, gather, render
from frozenhead.runs import Run, StoredHead


def report(folder: Path) -> dict[str, Any]:
    """Write `report.json` and `report.html` into the run.

    Returns
    -------
    dict
        The content of `report.json`.

    Raises
    ------
    HeadNotFound
        No head was trained yet.
    RunNotFound, RunDamaged, DataError
    """
    run = Run.open(folder)
    if not run.info["classes"]:
        raise DataError(f"{folder} holds unlabelled texts: there is nothing to compare.")
    evidence = gather(
        corpus=run.corpus(),
        features=run.features(),
        heads=[head_evidence(h) for h in run.heads()],
        run=run.info,
        folder=str(folder),
    )
    write_json(folder / "report.json", evidence)
    write_file(folder / "report.html", render(evidence, draw(evidence)).encode())
    return evidence


def head_evidence(stored: StoredHead) -> HeadEvidence:
    """A head as the report reads it. Raises `RunDamaged`."""
    info = read_description(stored.folder)
    weights = dict(zip(info["classes"], info["class_weights"], strict=True))
    return HeadEvidence(
        feature=stored.feature,
        head=stored.head,
        info={**info, "class_weights": weights},
        history=stored.history(),
        predictions=stored.predictions(),
    )
