"""`report` of several runs: their heads compared on the rows that they share. Nothing is written into the runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frozenhead.commands.head_files import head_evidence
from frozenhead.commands.report import labelled_run
from frozenhead.commands.voice import Silence, Voice
from frozenhead.errors import UsageError
from frozenhead.files import make_folder, write_file, write_json
from frozenhead.report.across import RunEvidence, gather_runs
from frozenhead.report.markdown import runs_to_markdown
from frozenhead.runs import Run


def compare_runs(folders: Sequence[Path], *, out: Path | None = None, voice: Voice | None = None) -> dict[str, Any]:
    """Compare the heads of several runs.

    Parameters
    ----------
    folders : sequence of Path
        Two or more runs of the same test rows.
    out : Path, optional
        A folder for `report.json` and `report.md`.
    voice : Voice, optional

    Returns
    -------
    dict
        The content of that `report.json`.

    Raises
    ------
    UsageError
        A run named twice, or `out` is one of them.
    DataError
        Runs of other classes or other test rows.
    HeadNotFound, RunNotFound, RunDamaged, StorageError
    """
    voice = voice or Silence()
    _check_folders(folders, out)
    runs = [labelled_run(folder) for folder in folders]
    with voice.bar("report", unit="runs") as advance:
        evidence = gather_runs([_evidence(run) for run in runs], progress=advance)
    if out is not None:
        make_folder(out)
        write_json(out / "report.json", evidence)
        write_file(out / "report.md", runs_to_markdown(evidence).encode())
        voice.say(f"wrote {out / 'report.json'} and {out / 'report.md'}")
    return evidence


def _check_folders(folders: Sequence[Path], out: Path | None) -> None:
    seen: dict[Path, Path] = {}
    for folder in folders:
        if (other := seen.setdefault(folder.resolve(), folder)) is not folder:
            raise UsageError(f"{other} and {folder} are one run; name each run once.")
    if out is not None and (out.is_file() or Run.is_run(out)):
        raise UsageError(f"--out {out} is a {'file' if out.is_file() else 'run'}. Give a folder of its own.")


def _evidence(run: Run) -> RunEvidence:
    heads = [head_evidence(run, stored) for stored in run.heads()]
    return RunEvidence(name=str(run.folder), info=run.info, corpus=run.corpus(), heads=heads)
