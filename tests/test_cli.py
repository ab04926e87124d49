"""The command line as its users meet it: streams, exit codes, signals."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest

from frozenhead.cli import _run as run_words
from frozenhead.heads import HEADS
from tests.commands.conftest import make_table

EXECUTABLE = [sys.executable, "-c", "from frozenhead.cli import main; main()"]


@dataclass(frozen=True)
class Done:
    """What one command left."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@contextmanager
def commands(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Run commands in this process, as `main` does but for the exit; handlers and hooks are put back at the end."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    shown, hook = warnings.showwarning, sys.unraisablehook

    def run(*words: object, stdin: str = "") -> Done:
        capfd.readouterr()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = run_words([str(word) for word in words])
        return Done(code, *capfd.readouterr())

    yield run
    warnings.showwarning, sys.unraisablehook = shown, hook
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def frozenhead(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`frozenhead WORDS` in this process."""
    with commands(capfd, monkeypatch) as run:
        yield run


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "texts.csv"
    make_table().to_csv(path, index=False)
    return path


@pytest.fixture
def embed(frozenhead: Command, tiny_folder: Path) -> Command:
    """`frozenhead embed FILE` with the tiny encoder into the folder `run` beside the file."""

    def run(path: Path, *words: object) -> Done:
        return frozenhead(
            "embed", path, "--model", tiny_folder, "--device", "cpu", "--out", path.parent / "run", *words
        )

    return run


def test_help_and_version_import_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['frozenhead', '--help']\n"
        "from frozenhead.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'pandas', 'numpy', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in ("demo", "embed", "fit", "report", "predict", "export", "verify", "cache"):
        assert command in done.stdout


def test_the_version_is_that_of_the_package(frozenhead: Command) -> None:
    assert frozenhead("--version").stdout == f"frozenhead {version('frozenhead')}\n"


def test_the_whole_path(frozenhead: Command, embed: Command, table: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    embedded = embed(table, "--pooling", "pooler,mean")
    assert embedded.returncode == 0, embedded.stderr
    assert "guessed from the names" in embedded.stderr
    assert "embedding" in embedded.stderr
    again = embed(table, "--pooling", "pooler,mean")
    assert "no forward pass" in again.stderr

    fitted = frozenhead("fit", run, "--head", "all", "--set", "epochs=2", "--json")
    assert fitted.returncode == 0, fitted.stderr
    assert {h["head"] for h in json.loads(fitted.stdout)["heads"]} == set(HEADS)

    reported = frozenhead("report", run)
    assert reported.returncode == 0, reported.stderr
    assert "tfidf" in reported.stdout
    assert (run / "report.html").exists()

    predicted = frozenhead("predict", run, "-", "--quiet", stdin="text\nwin a prize\nthe cat\n")
    assert predicted.returncode == 0, predicted.stderr
    assert predicted.stderr == ""
    assert predicted.stdout.splitlines()[0] == "text,predicted,prob_ham,prob_spam"
    assert len(predicted.stdout.splitlines()) == 3

    verified = frozenhead("verify", run, "--steps", 3, "--sample", 5, "--device", "cpu")
    assert verified.returncode == 0, verified.stderr
    assert "verdict: passed" in verified.stdout

    listed = frozenhead("cache", "ls", "--json")
    assert len(json.loads(listed.stdout)["spaces"]) == 2
    assert frozenhead("cache", "path").stdout.strip() == os.environ["FROZENHEAD_CACHE_DIR"]
    assert frozenhead("cache", "verify").returncode == 0


def test_cache_verify_of_a_damaged_cache_is_exit_5(frozenhead: Command, embed: Command, table: Path) -> None:
    embed(table)
    shard = next(Path(os.environ["FROZENHEAD_CACHE_DIR"]).glob("v1/*/shards/*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    done = frozenhead("cache", "verify")
    assert done.returncode == 5
    assert shard.stem[:12] in done.stdout
    assert frozenhead("cache", "verify", "--json", "--quiet").returncode == 0  # it was set aside


def test_a_head_that_cannot_learn_does_not_stop_the_others(frozenhead: Command, embed: Command, tmp_path: Path) -> None:
    path = tmp_path / "punctuation.csv"
    rows = "".join(f"{'!' * n},a\n{'?' * n},b\n" for n in range(1, 21))
    path.write_text("text,label\n" + rows)
    embed(path)
    done = frozenhead("fit", tmp_path / "run", "--head", "all", "--set", "epochs=2")
    assert done.returncode == 3
    assert "tfidf on text was not stored" in done.stderr
    assert "majority" in done.stdout
    assert (tmp_path / "run" / "heads" / "text" / "majority" / "head.json").exists()


def test_verify_fails_with_its_own_exit_code(frozenhead: Command, embed: Command, table: Path, tmp_path: Path) -> None:
    from tests.commands.test_verify import off_by_little, replace_vectors

    embed(table, "--pooling", "mean")
    replace_vectors(tmp_path / "run", off_by_little)
    done = frozenhead("verify", tmp_path / "run", "--steps", 3, "--sample", 5, "--device", "cpu")
    assert done.returncode == 5
    assert "verdict: FAILED" in done.stdout


def test_results_go_to_stdout_and_the_rest_to_stderr(embed: Command, table: Path) -> None:
    done = embed(table, "--json")
    result = json.loads(done.stdout)
    assert result["rows"] == 120
    assert "\x1b" not in done.stderr  # no bar and no colour where there is no terminal
    assert embed(table, "--json", "--quiet").stderr == ""


BAD_DATA = {
    "empty": (b"", "empty"),
    "header only": (b"text,label\n", "no rows"),
    "ragged": (b"text,label\na,b\nc\n", "line 3"),
    "unbalanced quotes": (b'text,label\na,b\n"c,d\n', "line 3"),
    "not UTF-8": (b"text,label\na,b\n\xff\xfe,d\n", "--encoding"),
    "NUL": (b"text,label\na,b\n\x00,d\n", "line 3"),
    "blank text": (b"text,label\na,b\n  ,d\n", "row 2"),
    "missing label": (b"text,label\na,b\nc,\n", "row 2"),
    "single class": (b"text,label\na,b\nc,b\n", "class"),
    "too few rows": (b"text,label\n" + b"a,x\n" * 30 + b"b,rare\n", "rare"),
    "duplicate columns": (b"text,text,label\na,b,c\n", "text"),
    "ambiguous columns": (b"text,message,label\na,b,c\n", "--text"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_exit_3_and_names_the_file_and_the_place(embed: Command, name: str, tmp_path: Path) -> None:
    content, told = BAD_DATA[name]
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    done = embed(path)
    assert done.returncode == 3, done.stderr
    message = done.stderr[done.stderr.index("error: ") :]
    assert "bad.csv" in message
    assert told in message
    assert len(message.strip().splitlines()) <= 3
    assert not (tmp_path / "run").exists()


def test_wrong_columns_offer_the_nearest_names(embed: Command, table: Path) -> None:
    done = embed(table, "--text", "txt")
    assert (done.returncode, "'text'" in done.stderr) == (3, True)


def test_a_label_unseen_in_training_is_named(embed: Command, table: Path, tmp_path: Path) -> None:
    test = tmp_path / "test.csv"
    test.write_text("text,label\nthe cat,ham\nwhat,eggs\n")
    done = embed(table, "--test", test)
    assert done.returncode == 3
    assert "eggs" in done.stderr
    assert "test.csv" in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("embed", "nowhere.csv"), 3),
        (("fit", "nowhere"), 2),
        (("bogus",), 2),
        (("embed",), 2),
        (("embed", "x.csv", "--split", "0.9"), 2),
        (("embed", "x.csv", "--pooling", "sum"), 2),
        (("embed", "x.csv", "--recipe", "cake"), 2),
        (("embed", "x.csv", "--device", "tpu"), 2),
        (("embed", "x.csv", "--name", "n" * 65), 2),
        (("cache", "export", "zz", "-o", "x.parquet"), 2),
    ],
)
def test_wrong_usage_has_an_exit_code_and_no_traceback(
    frozenhead: Command, words: tuple[str, ...], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = frozenhead(*words)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


@pytest.mark.parametrize("named", ["", "mean,", ",mean", "cls,,mean"])
def test_a_pooling_that_was_left_out_is_told_of(frozenhead: Command, table: Path, named: str) -> None:
    done = frozenhead("embed", table, "--pooling", named)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--pooling {named!r} leaves a name out." in done.stderr


def test_an_encoder_that_is_not_there_is_exit_4(frozenhead: Command, table: Path) -> None:
    done = frozenhead("embed", table, "--model", "someone/some-encoder", "--out", table.parent / "run")
    assert done.returncode == 4
    assert "minilm" in done.stderr
    assert "FOLDER" in done.stderr


def test_a_cache_that_cannot_be_written_is_exit_6(embed: Command, table: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = embed(table, "--cache-dir", tmp_path / "file" / "cache")
    assert done.returncode == 6, done.stderr
    assert "file" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_exit_6(frozenhead: Command, embed: Command, table: Path) -> None:
    embed(table)
    frozenhead("fit", table.parent / "run", "--head", "majority")
    words = [*EXECUTABLE, "predict", str(table.parent / "run"), str(table)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(words, check=False, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 6, done.stderr
    assert "No space" in done.stderr


def test_a_reader_that_goes_away_is_no_error_to_shout_about(
    frozenhead: Command, embed: Command, table: Path, tmp_path: Path
) -> None:
    embed(table)
    frozenhead("fit", tmp_path / "run", "--head", "majority")
    many = tmp_path / "many.csv"
    pd.concat([make_table(200)] * 50).to_csv(many, index=False)
    command = " ".join(f"'{word}'" for word in [*EXECUTABLE, "predict", str(tmp_path / "run"), str(many), "-q"])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1"], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("text,label,predicted")
    assert "Traceback" not in done.stderr


# Says on stderr when a batch is done, and does the next one slowly.
SLOWLY = """
import sys, time
from frozenhead.embedder.encoder import Encoder
start = Encoder.start
def slowly(self, rows):
    print("batch", file=sys.stderr, flush=True)
    time.sleep(0.2)
    return start(self, rows)
Encoder.start = slowly
from frozenhead.cli import main
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_was_encoded_and_the_next_run_resumes(
    frozenhead: Command, number: signal.Signals, code: int, tiny_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "many.csv"
    pd.DataFrame({"text": [f"the cat sat on mat number {i}" for i in range(20_000)]}).to_csv(path, index=False)
    words = ["embed", path, "--no-label", "--model", tiny_folder, "--precision", "fp32", "--out", tmp_path / "run"]
    with subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *map(str, words)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for _ in range(3):
            next(line for line in process.stderr if line == "batch\n")
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == code, rest
    assert "the same command goes on from there" in rest
    resumed = frozenhead(*words)
    assert re.search(r"resuming: [1-9][0-9,]* of 20,000 texts cached, [1-9][0-9,]* to embed", resumed.stderr)
    assert resumed.returncode == 0


def test_a_signal_lost_in_a_destructor_is_raised_again() -> None:
    code = (
        "import os, signal, time\n"
        "from frozenhead import cli\n"
        "class Trap:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.1)\n"
        "def trapped(**_):\n"
        "    trap = Trap()\n"
        "    del trap\n"
        "    time.sleep(20)\n"
        "cli.app.command('trapped')(lambda: trapped())\n"
        "cli.sys.argv = ['frozenhead', 'trapped']\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=15)
    assert done.returncode == 143, done.stderr


def test_long_texts_from_the_command_line(frozenhead: Command, embed: Command, table: Path, tmp_path: Path) -> None:
    done = embed(table, "--max-length", "8", "--long", "windows")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"texts \(.*%\) are longer than 8 tokens and were read in \d+ windows: ham .*%, spam .*%", done.stdout
    )
    assert frozenhead("fit", tmp_path / "run", "--head", "softmax").returncode == 0
    shown = frozenhead("report", tmp_path / "run").stdout
    assert re.search(r"tokens of tiny-bert\.\S+ and were read in \d+ windows", shown)
    assert frozenhead("verify", tmp_path / "run", "--steps", 3, "--sample", 5, "--device", "cpu").returncode == 0

    chosen = embed(table, "--max-length", "auto", "--name", "auto", "--json")
    assert chosen.returncode == 0, chosen.stderr
    assert re.search(r"^max length 16: cuts 0\.0% of texts, 0 of 120 \(8 would cut .*%\)$", chosen.stderr, re.MULTILINE)
    assert json.loads(chosen.stdout)["features"]["auto.pooler"]["max_length"] == 16


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-length", "atuo"], "--max-length is 'atuo'; give a number of tokens, or auto"),
        (["--max-length", "1000"], "takes 3 to 64 tokens"),
        (["--long", "window"], "choose cut or windows"),
        (["--long", "windows", "--max-length", "7"], "windows need at least 8 tokens"),
    ],
)
def test_lengths_that_cannot_be_are_wrong_usage(embed: Command, table: Path, words: list[str], said: str) -> None:
    done = embed(table, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_half_a_surrogate_pair_is_bad_data_wherever_it_stands(
    frozenhead: Command, embed: Command, table: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine", "label": "ham"}\n{"text": "\\ud800 x", "label": "spam"}\n')
    assert embed(table).returncode == 0
    assert frozenhead("fit", tmp_path / "run", "--head", "softmax").returncode == 0
    for done in (embed(bad), embed(table, "--test", bad), frozenhead("predict", tmp_path / "run", bad)):
        assert done.returncode == 3
        assert "line 2 (row 2)" in done.stderr
        assert "surrogate" in done.stderr
