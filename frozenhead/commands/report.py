"""`report`: score every head of a run, and write the evidence as JSON and as a page."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frozenhead.commands.head_files import head_evidence
from frozenhead.commands.outputs import encode_table, output_format
from frozenhead.commands.vectors import check_finite, run_vectors
from frozenhead.commands.voice import Silence, Voice
from frozenhead.errors import DataError, UsageError
from frozenhead.files import write_file, write_json
from frozenhead.report import draw, gather, render
from frozenhead.report.evidence import NEAR, check_near
from frozenhead.runs import Run
from frozenhead.shell import joined

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What the command line says.

    Parameters
    ----------
    run : Path
    near : float
        Cosine from which two texts are near copies, in (0, 1].
    errors : Path, optional
        A file for every row that the selected head gets wrong: .csv, .tsv, .jsonl or .parquet.
    cache_dir : path or URL, optional
        Where the vectors are, if not where the run says.
    """

    run: Path
    near: float = NEAR
    errors: Path | None = None
    cache_dir: str | Path | None = None

    @property
    def command(self) -> str:
        """The command line that says the same."""
        words = ["frozenhead", "report", str(self.run)]
        if self.near != NEAR:
            words += ["--near", str(self.near)]
        for flag, path in (("--errors", self.errors), ("--cache-dir", self.cache_dir)):
            words += [flag, str(path)] if path is not None else []
        return joined(words)

    def __post_init__(self) -> None:
        check_near(self.near)
        if self.errors is None:
            return
        if str(self.errors) == "-":
            raise UsageError("--errors takes a file; standard output is for the report.")
        output_format(str(self.errors))
        if not self.errors.parent.is_dir():
            raise UsageError(
                f"--errors {self.errors}: there is no folder {self.errors.parent}. Make it first, or name another file."
            )


def report(options: ReportOptions | Path, voice: Voice | None = None) -> dict[str, Any]:
    """Write `report.json` and `report.html` into the run, and the errors where they are asked for.

    Parameters
    ----------
    options : ReportOptions or Path
        A path is the run's folder.
    voice : Voice, optional

    Returns
    -------
    dict
        The content of `report.json`.

    Raises
    ------
    HeadNotFound
        No head was trained yet.
    RunNotFound, RunDamaged, DataError, UsageError, StorageError
    """
    options = options if isinstance(options, ReportOptions) else ReportOptions(run=options)
    voice = voice or Silence()
    run = labelled_run(options.run)
    corpus, features, heads = run.corpus(), run.features(), [head_evidence(run, h) for h in run.heads()]

    def vectors(name: str) -> "NDArray[Any]":
        record, cache_dir = features[name], options.cache_dir
        found = run_vectors(run, record, corpus, name=name, cache_dir=cache_dir)
        check_finite(run, record, corpus, found, name=name, cache_dir=cache_dir)
        return found

    wrong: list[pd.DataFrame] = []
    with voice.bar("report", unit="steps") as advance:
        evidence = gather(
            corpus=corpus, features=features, heads=heads, run=run.info, folder=str(options.run),
            command=options.command, vectors=vectors,
            near=options.near, progress=advance, take_errors=wrong.append,
        )  # fmt: skip
    if reason := evidence["vectors"]["reason"]:
        voice.say(f"no near copies, neighbours and map: {reason}")
    write_json(options.run / "report.json", evidence)
    write_file(options.run / "report.html", render(evidence, draw(evidence)).encode())
    if options.errors is not None:
        table = wrong[0]
        write_file(options.errors, encode_table(table, output_format(str(options.errors)), raw=False))
        voice.say(f"wrote the {len(table):,} errors of the selected head to {options.errors}")
    return evidence


def labelled_run(folder: Path) -> Run:
    """The run in a folder. Raises `DataError` if its texts have no labels."""
    run = Run.open(folder)
    if not run.info["classes"]:
        raise DataError(
            f"{folder} holds unlabelled texts: there is nothing to compare. "
            "Embed labelled ones: frozenhead embed DATA --label COL"
        )
    return run
