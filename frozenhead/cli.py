"""The command line: parse, call, print; no logic.

torch, transformers, pandas and scikit-learn are imported by the commands, inside the functions below:
`frozenhead --help` answers in under half a second.
"""

import contextlib
import io
import shlex
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer

from frozenhead.cli_cache import cache_app
from frozenhead.cli_fit import fit
from frozenhead.cli_options import (
    Address,
    CacheDir,
    CpusPerWorker,
    Delimiter,
    Device,
    Devices,
    Encoding,
    Engine,
    Features,
    Format,
    GpusPerWorker,
    Json,
    Quiet,
    RunCacheDir,
    RunFolder,
    Worker,
    Workers,
    split_names,
)
from frozenhead.cli_report import report
from frozenhead.errors import FrozenheadError, ProofFailed, StorageError, UsageError
from frozenhead.shell import quoted
from frozenhead.signals import Stopped, ignore_signals, stop_on_signals
from frozenhead.terminal import (
    TerminalVoice,
    corpus_lines,
    counts_line,
    export_lines,
    feature_lines,
    listen_to_library,
    many,
    print_error,
    print_json,
    print_lines,
    print_notice,
    verdict_lines,
    view_lines,
    worker_lines,
)

STOPPED = "stopped. What was finished before is kept; the same command goes on from there."
# The words of the command line that is running, which a run records.
_words: ContextVar[list[str]] = ContextVar("words")

app = typer.Typer(
    name="frozenhead",
    help="Run a frozen BERT once, keep its vectors, and train and compare heads on them in seconds.\n\n"
    "The way: embed, then fit, then report. Try: frozenhead demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(cache_app)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print_lines([f"frozenhead {version('frozenhead')}"])
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the corpus and the run.")] = Path(
        "frozenhead-demo"
    ),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The whole path on data and an encoder that need no network."""
    from frozenhead.commands.demo import demo as run_demo

    flags = ["--quiet"] if quiet else []
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        result = run_demo(out, lambda words: _dispatch([*words, *flags]), TerminalVoice(quiet=quiet))
    if as_json:
        print_json(result)
    else:
        print_lines([f"the page: {result['page']}", f"done in {result['seconds']:.0f} s"])


@app.command()
def embed(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="CSV, TSV, JSONL or Parquet, .gz too, or a folder of them; - is standard input."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="The run folder; default runs/<name of DATA>.")
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="COL", help="Text column; guessed when its name is plain.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="COL", help="Label column; guessed when its name is plain.")
    ] = None,
    no_label: Annotated[bool, typer.Option("--no-label", help="The texts have no labels: embed only.")] = False,
    split: Annotated[
        str | None, typer.Option("--split", help="Shares of train/val/test, stratified.  [default: 0.7/0.15/0.15]")
    ] = None,
    split_column: Annotated[
        str | None, typer.Option("--split-column", metavar="COL", help="Column that says train, val or test.")
    ] = None,
    val: Annotated[
        str | None, typer.Option("--val", metavar="FILE", help="Validation rows, in a file or folder.")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", metavar="FILE", help="Test rows, in a file or folder.")] = None,
    group_duplicates: Annotated[
        bool, typer.Option("--group-duplicates", help="Keep copies of a text in one split.")
    ] = False,
    split_by: Annotated[
        str,
        typer.Option(
            "--split-by",
            help="stratified: each class in these shares; text: each text by itself, whatever else is there, so that "
            "copies stay together and shares are as expected.",
        ),
    ] = "stratified",
    seed: Annotated[int | None, typer.Option("--seed", help="Of the split.  [default: 2018]")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="minilm, a checkpoint folder, or a hub id.  [default: minilm]"),
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the encoder is called in the run.")] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            "--pooling",
            help="pooler, cls, mean, max, last4 (the [CLS] states of the last four layers); several with commas. "
            "auto: what the encoder's sentence-transformers files say.  [default: pooler]",
        ),
    ] = None,
    layer: Annotated[
        int, typer.Option("--layer", help="Which layer is pooled: -1 the last, -2 the one before; 0 the embeddings.")
    ] = -1,
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="TEXT", help="Put before every text, such as 'query: ' for E5.")
    ] = None,
    normalize: Annotated[
        bool | None, typer.Option("--normalize/--no-normalize", help="Scale vectors to length 1.  [default: no]")
    ] = None,
    max_length: Annotated[
        str | None,
        typer.Option(
            "--max-length",
            metavar="N|auto",
            help="Tokens kept, [CLS] and [SEP] included; auto: the shortest power of two, from 8, that cuts under 1 % "
            "of the texts.  [default: the encoder's limit]",
        ),
    ] = None,
    long: Annotated[
        str, typer.Option("--long", help="Longer texts: cut, or windows, which overlap and are averaged.")
    ] = "cut",
    precision: Annotated[
        str | None, typer.Option("--precision", help="fp32, bf16, fp16 or auto: bf16 where native.  [default: auto]")
    ] = None,
    backend: Annotated[str, typer.Option("--backend", help="torch, openvino or auto: the fastest installed.")] = "auto",
    device: Devices = "auto",
    views: Annotated[
        int,
        typer.Option(
            "--views", metavar="V", help="Also V passes of every training text with the encoder's own dropout on."
        ),
    ] = 0,
    view_seed: Annotated[
        int | None, typer.Option("--view-seed", help="Of the dropout of the views.  [default: the seed of the split]")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="notebook: the published notebook's encoder, split, length and pooling."),
    ] = None,
    worker: Worker = None,
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    cpus_per_worker: CpusPerWorker = None,
    file_format: Format = None,
    encoding: Encoding = "utf-8",
    delimiter: Delimiter = None,
    cache_dir: CacheDir = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that holds other data.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be embedded, and do nothing.")] = False,
    stream: Annotated[
        bool | None,
        typer.Option("--stream/--no-stream", help="Read DATA in parts, in little memory.  [default: if it is large]"),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read, check and split texts; compute the vectors that the cache lacks."""
    from frozenhead.commands.embed import embed as run_embed
    from frozenhead.commands.options import embed_options
    from frozenhead.fleet import RayOptions

    ray = RayOptions(address=address, workers=workers, gpus_per_worker=gpus_per_worker, cpus_per_worker=cpus_per_worker)

    options = embed_options(
        data=data, out=out, recipe=recipe, model=model, revision=revision, name=name,
        pooling=pooling, layer=layer, prefix=prefix, normalize=normalize, max_length=max_length, precision=precision,
        backend=backend, device=device,
        corpus={
            "text": text, "label": label, "labelled": not no_label, "split": split, "seed": seed,
            "split_column": split_column, "val": val, "test": test, "group_duplicates": group_duplicates,
            "split_by": split_by,
            "format": file_format, "encoding": encoding, "delimiter": delimiter,
        },
        views=views, view_seed=view_seed, cache_dir=cache_dir, overwrite=overwrite, dry_run=dry_run, long=long,
        worker=worker, engine=engine, ray=ray, stream=stream, command=_command_line(),
    )  # fmt: skip
    result = run_embed(options, TerminalVoice(quiet=quiet))
    if as_json:
        print_json(result)
        return
    if options.worker is not None:
        print_lines(worker_lines(result))
        return
    print_lines(corpus_lines(result))
    if dry_run:
        print_lines([f"{many(result['cached'], 'text')} cached, {result['to_embed']:,} to embed; nothing was done"])
        print_lines(view_lines(result["views"]))
        return
    for feature, facts in result["features"].items():
        print_lines(feature_lines(feature, facts))
    print_lines(
        [
            f"{many(result['computed'], 'text')} embedded, {result['cached']:,} from the cache, "
            f"{result['seconds']:.1f} s",
            *view_lines(result["views"]),
            f"next: frozenhead fit {quoted(result['run'])} --head all"
            if result["classes"]
            else f"run: {result['run']}",
        ]
    )


app.command()(fit)


app.command()(report)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or the folder of one trained head.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Table of new texts; - is standard input.")],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help=".csv, .tsv, .jsonl or .parquet; - is standard output.")
    ] = "-",
    head: Annotated[str | None, typer.Option("--head", help="Default: the best on validation.")] = None,
    features: Annotated[
        str | None, typer.Option("--features", metavar="NAME", help="Default: the best on validation.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", metavar="COL", help="Text column; default the run's.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Where the encoder is; default what the head says.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Leave cells that look like formulas as they are.")] = False,
    device: Device = "auto",
    file_format: Format = None,
    encoding: Encoding = "utf-8",
    delimiter: Delimiter = None,
    cache_dir: RunCacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Label new texts with a trained head."""
    from frozenhead.commands.predict import PredictOptions
    from frozenhead.commands.predict import predict as run_predict

    if as_json and out == "-":
        raise UsageError("--json and the table would both go to standard output; give the table a file with -o FILE.")
    options = PredictOptions(
        run=run, data=data, out=out, head=head, feature=features, model=model, text=text, device=device,
        cache_dir=cache_dir, raw=raw, format=file_format, encoding=encoding, delimiter=delimiter,
    )  # fmt: skip
    voice = TerminalVoice(quiet=quiet)
    summary = run_predict(options, voice, stdout=sys.stdout.buffer)
    if as_json:
        print_json(summary)
    elif out == "-":
        sys.stdout.buffer.flush()
    else:
        voice.say(f"wrote {many(summary['rows'], 'row')} to {out}: {counts_line(summary['predicted'])}")


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="HEAD", help="RUN/heads/<feature>/<head>, or a run.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder to make: new or empty.")],
    head: Annotated[str | None, typer.Option("--head", help="Of a run; default the best on validation.")] = None,
    features: Annotated[
        str | None, typer.Option("--features", "--feature", metavar="NAME", help="Of a run; default likewise.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a folder of a trained head for others: the head, its encoder's identity, a model card."""
    from frozenhead.commands.export import ExportOptions
    from frozenhead.commands.export import export as run_export

    options = ExportOptions(source=source, to=to, head=head, feature=features, overwrite=overwrite)
    result = run_export(options, TerminalVoice(quiet=quiet))
    if as_json:
        print_json(result)
    else:
        print_lines(export_lines(result))


@app.command()
def verify(
    run: RunFolder,
    features: Features = "all",
    sample: Annotated[int, typer.Option("--sample", help="Rows embedded again one by one.")] = 100,
    steps: Annotated[int, typer.Option("--steps", help="Training steps compared.")] = 50,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample and the training.")] = 2018,
    device: Device = "auto",
    cache_dir: RunCacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Prove that cached vectors equal end to end: in fp32 to 1e-4, in bf16 nearly."""
    from frozenhead.commands.verify import VerifyOptions
    from frozenhead.commands.verify import verify as run_verify

    options = VerifyOptions(
        run=run,
        features=split_names(features),
        sample=sample,
        steps=steps,
        seed=seed,
        device=device,
        cache_dir=cache_dir,
    )
    result = run_verify(options, TerminalVoice(quiet=quiet))
    if as_json:
        print_json(result)
    else:
        print_lines(verdict_lines(result))
    if not result["passed"]:
        raise ProofFailed(
            "The cached vectors are not what the encoder gives.\n"
            "Remove the space with `frozenhead cache prune --space ID` and run `frozenhead embed` again."
        )


def _command_line() -> str:
    return shlex.join(["frozenhead", *_words.get()])


def _dispatch(words: list[str]) -> None:
    """Run one command line given as words, inside another; what it raises goes on."""
    outer = _words.set(words)
    try:
        typer.main.get_command(app).main(words, prog_name="frozenhead", standalone_mode=False)
    finally:
        _words.reset(outer)


def main() -> None:
    """Entry point: run the command, turn what went wrong into a line and an exit code."""
    try:
        code = _run(sys.argv[1:])
        ignore_signals()
    except Stopped as stopped:  # also one that came when all was done, or while an error was told of
        ignore_signals()
        print_notice(STOPPED)
        code = stopped.exit_code
    sys.exit(code)


def _run(words: list[str]) -> int:
    _words.set(words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a label that the terminal cannot show is no crash
    stop_on_signals()
    listen_to_library()
    try:
        typer.main.get_command(app).main(words, prog_name="frozenhead")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except FrozenheadError as error:
        print_error(str(error))
        return error.exit_code
    except OSError as error:
        print_error(f"{error.filename or 'A file'}: {error.strerror or error}")
        return StorageError.exit_code
    return 0
