"""The command `report`: parse, call, print."""

from pathlib import Path
from typing import Annotated, Any

import typer

from frozenhead.cli_options import Json, Quiet, RunCacheDir
from frozenhead.errors import UsageError
from frozenhead.terminal import TerminalVoice, output_console, print_json, print_lines, print_renderables

FORMATS = ("table", "json", "markdown")


Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", help="The run; or several of the same test rows, to compare their heads."),
]
Output = Annotated[str | None, typer.Option("--format", help="On stdout: table, json or markdown.  [default: table]")]
AsMarkdown = Annotated[
    bool, typer.Option("--markdown", help="The same as --format markdown: for a pull request or a model card.")
]
Near = Annotated[
    float | None,
    typer.Option(
        "--near", metavar="COSINE", help="From which cosine of their vectors texts are near copies.  [default: 0.95]"
    ),
]
Errors = Annotated[
    Path | None,
    typer.Option("--errors", metavar="FILE", help="Also write every row that the selected head gets wrong: .csv, ..."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Of several runs: a folder for report.json and report.md."),
]
PerClass = Annotated[bool, typer.Option("--per-class", help="Every class of every head, however many.")]


def report(
    runs: Runs,
    output: Output = None,
    as_markdown: AsMarkdown = False,
    near: Near = None,
    errors: Errors = None,
    out: Out = None,
    per_class: PerClass = False,
    cache_dir: RunCacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare the heads: a table here, report.html and report.json in RUN. Of several runs, only what is printed."""
    form = _format(output, as_json=as_json, as_markdown=as_markdown)
    voice = TerminalVoice(quiet=quiet)
    if len(runs) > 1:
        _refuse({"--near": near, "--errors": errors, "--per-class": per_class or None, "--cache-dir": cache_dir})
        from frozenhead.commands.comparing import compare_runs

        _print_runs(compare_runs(runs, out=out, voice=voice), form)
        return
    if out is not None:
        raise UsageError("--out is for several runs; the report of one run is written into it. Leave it out.")
    from frozenhead.commands.report import ReportOptions
    from frozenhead.commands.report import report as run_report
    from frozenhead.report.evidence import NEAR

    options = ReportOptions(run=runs[0], near=NEAR if near is None else near, errors=errors, cache_dir=cache_dir)
    _print(run_report(options, voice), form, per_class=per_class)
    voice.say(f"wrote {runs[0] / 'report.html'} and {runs[0] / 'report.json'}")


def _format(output: str | None, *, as_json: bool, as_markdown: bool) -> str:
    """The one format asked for."""
    if output is not None and output not in FORMATS:
        from frozenhead.heads.options import nearest

        raise UsageError(f"--format is {output!r}{nearest(output, FORMATS)}; expected {', '.join(FORMATS)}.")
    asked = {*([output] if output else []), *(["json"] if as_json else []), *(["markdown"] if as_markdown else [])}
    if len(asked) > 1:
        raise UsageError(f"Standard output takes one format; {' and '.join(sorted(asked))} were asked for.")
    return asked.pop() if asked else "table"


def _refuse(given: dict[str, Any]) -> None:
    """Raise for an option that says something of one run only."""
    for flag, value in given.items():
        if value is not None:
            raise UsageError(f"{flag} is for the report of one run. Leave it out, or name one run.")


def _print(evidence: dict[str, Any], form: str, *, per_class: bool) -> None:
    if form == "json":
        print_json(evidence)
    elif form == "markdown":
        from frozenhead.report.markdown import to_markdown

        print_lines([to_markdown(evidence).rstrip("\n")])
    else:
        from frozenhead.report import terminal_table

        print_renderables(terminal_table(evidence, width=output_console().width, every_class=per_class))


def _print_runs(evidence: dict[str, Any], form: str) -> None:
    if form == "json":
        print_json(evidence)
    elif form == "markdown":
        from frozenhead.report.markdown import runs_to_markdown

        print_lines([runs_to_markdown(evidence).rstrip("\n")])
    else:
        from frozenhead.report.table_across import runs_table

        print_renderables(runs_table(evidence, width=output_console().width))
