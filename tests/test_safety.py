"""What lies on disk is data: no file is a pickle, no source can read one, and no name in a file is imported."""

import ast
import bz2
import gzip
import hashlib
import io
import json
import lzma
import pickle
import pickletools
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from frozenhead.commands.report import report
from frozenhead.errors import FrozenheadError
from frozenhead.heads import HEADS, load_head
from frozenhead.runs import Run
from tests.commands.shipping import edit_head, make_trained_run, ship
from tests.conftest import REPOSITORY

UNPACKERS: tuple[Callable[[bytes], bytes], ...] = (gzip.decompress, zlib.decompress, bz2.decompress, lzma.decompress)


def why_unsafe(data: bytes) -> str | None:
    """What in some bytes could run code when a common loader reads them; None if nothing."""
    if not data:
        return None
    if data[:6] == b"\x93NUMPY":
        return "an array of objects" if np.lib.format.read_array_header_1_0(io.BytesIO(data[8:]))[2].hasobject else None
    if zipfile.is_zipfile(io.BytesIO(data)):
        return "an archive, as torch.save and numpy.savez write"
    if is_pickle(data):
        return "a pickle"
    for unpack in UNPACKERS:
        try:
            return why_unsafe(unpack(data))
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
            continue
    return None


def is_pickle(data: bytes) -> bool:
    """Whether bytes begin with a whole pickle, of any protocol."""
    try:
        for _ in pickletools.genops(data):
            pass
    except Exception:  # noqa: BLE001 (whatever an opcode's reader raises, it is none)
        return False
    return True


def saved_by_torch(value: Any, **given: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **given)
    return buffer.getvalue()


def saved_by_joblib(value: Any, compress: Any) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(value, buffer, compress=compress)
    return buffer.getvalue()


def saved_by_numpy(value: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=True)
    return buffer.getvalue()


VALUE = {"weights": [1.5, 2.5], "name": "dense"}
UNSAFE = {f"pickle protocol {p}": pickle.dumps(VALUE, protocol=p) for p in range(pickle.HIGHEST_PROTOCOL + 1)}
UNSAFE |= {f"joblib {c}": saved_by_joblib(VALUE, c) for c in (0, "zlib", "gzip", "bz2", "lzma", "xz")}
UNSAFE |= {"torch": saved_by_torch(VALUE), "old torch": saved_by_torch(VALUE, _use_new_zipfile_serialization=False)}
UNSAFE |= {"numpy objects": saved_by_numpy(np.array([VALUE], object))}


@pytest.mark.parametrize("kind", UNSAFE)
def test_the_search_knows_what_it_searches_for(kind: str) -> None:
    assert why_unsafe(UNSAFE[kind]) is not None


@pytest.mark.parametrize("data", [saved_by_numpy(np.arange(3)), save({"a": np.arange(3)}), b'{"a": 1}', b"PAR1", b""])
def test_the_search_lets_data_be(data: bytes) -> None:
    assert why_unsafe(data) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A run with every head, its report, its cache and an export of every head, side by side."""
    folder = tmp_path_factory.mktemp("safety")
    run = make_trained_run(folder, tiny_folder, heads=("all",), pooling="mean,pooler")
    report(run)
    for stored in Run.open(run).heads():
        ship(run, folder / "exports" / f"{stored.head}-{stored.feature}", stored.head, feature=stored.feature)
    return folder


def test_no_file_of_a_run_a_cache_or_an_export_could_run_code(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {
        "head.json",
        "weights.safetensors",
        "predictions.parquet",
        "report.html",
        "encoder.json",
        "space.json",
    } <= names
    assert {path.parts[len(folder.parts)] for path in files} == {"run", "cache", "exports", "texts.csv"}
    assert [(path, found) for path in files if (found := why_unsafe(path.read_bytes()))] == []


FORBIDDEN_MODULES = {
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "skops", "pickletools", "copyreg",
}  # fmt: skip
FORBIDDEN_CALLS = {
    "joblib.load", "joblib.dump", "torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "pandas.read_pickle",
    "numpy.fromregex", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "builtins.eval", "builtins.exec",
}  # fmt: skip
FORBIDDEN_METHODS = {"to_pickle", "read_pickle", "unsafe_load"}
# Each may import by a name that is no literal; no name here comes from a file.
OWN_NAMES = {"frozenhead/__init__.py": {"frozenhead.{}"}}


def sins(source: str, path: str = "x.py") -> Iterator[str]:
    """What in a source could read or write a pickle, or run a string."""
    tree = ast.parse(source)
    known = {"eval": "builtins.eval", "exec": "builtins.exec", "__import__": "builtins.__import__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name.split(".")[0]: alias.name if alias.asname else alias.name.split(".")[0]
                      for alias in node.names}  # fmt: skip
            yield from (f"imports {a.name}" for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom):
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names = {str(node.module).split(".")[0], *(a.name for a in node.names)}
            yield from (f"imports {name}" for name in names & FORBIDDEN_MODULES)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from call_sins(node, known, path)


def call_sins(call: ast.Call, known: dict[str, str], path: str) -> Iterator[str]:
    name = dotted(call.func, known)
    if name in FORBIDDEN_CALLS or name.rpartition(".")[2] in FORBIDDEN_METHODS:
        yield f"calls {name}"
    allow = {k.arg: k.value for k in call.keywords}.get("allow_pickle")
    refused = isinstance(allow, ast.Constant) and allow.value is False
    if name in ("numpy.load", "numpy.save", "numpy.savez", "numpy.lib.format.read_array") and not refused:
        yield f"calls {name} without allow_pickle=False"
    if allow is not None and not refused:
        yield "allows pickles"
    if name in ("importlib.import_module", "builtins.__import__"):
        wanted = call.args[0] if call.args else None
        if not isinstance(wanted, ast.Constant) and literal_parts(wanted) not in OWN_NAMES.get(path, set()):
            yield f"imports what {ast.unparse(call)} names"
    if any(k.arg == "trust_remote_code" and not is_false(k.value) for k in call.keywords):
        yield "trusts remote code"


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def literal_parts(node: ast.expr | None) -> str | None:
    """An f-string with its values left out: what is fixed of it."""
    if not isinstance(node, ast.JoinedStr):
        return None
    return "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)


def dotted(node: ast.expr, known: dict[str, str]) -> str:
    """`np.load` as `numpy.load`; nothing for what is called by no name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, known)}.{node.attr}"
    return known.get(node.id, node.id) if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "from joblib import load\nload('x')",
        "import joblib as j\nj.dump(1, 'x')",
        "import torch\ntorch.load('x')",
        "def f():\n    from torch import save as s\n    s(1, 'x')",
        "import numpy as np\nnp.load('x')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=flag)",
        "frame.to_pickle('x')",
        "eval('1')",
        "import yaml\nyaml.load('x')",
        "from importlib import import_module\nimport_module(name)",
        "import importlib\nimportlib.import_module(f'frozenhead.{name}')",
        "__import__(name)",
        "load(x, trust_remote_code=True)",
    ],
)
def test_the_search_of_sources_knows_what_it_searches_for(source: str) -> None:
    assert list(sins(source))


def test_the_search_of_sources_lets_safe_calls_be() -> None:
    assert not list(
        sins("import numpy as np, yaml\nnp.load('x', allow_pickle=False)\nyaml.safe_load('x')\nmodel.eval()")
    )


def test_no_source_of_the_package_can_read_or_write_a_pickle() -> None:
    sources = sorted((REPOSITORY / "frozenhead").rglob("*.py"))
    assert len(sources) > 50
    found: dict[str, list[str]] = {}
    for path in sources:
        name = path.relative_to(REPOSITORY).as_posix()
        found |= {name: wrong} if (wrong := list(sins(path.read_text(), name))) else {}
    assert found == {}


EVIL = "frozenhead_evil"


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that appears if the module `frozenhead_evil` is ever imported."""
    mark = tmp_path / "imported"
    (tmp_path / f"{EVIL}.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Head: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, EVIL, raising=False)
    return mark


def test_the_module_that_must_not_be_imported_would_show(evil: Path) -> None:
    subprocess.run([sys.executable, "-c", f"import {EVIL}"], check=True, cwd=evil.parent)
    assert evil.exists()


def strings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a JSON value a string stands."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from strings(value[key], (*path, key))


def put(path: tuple[Any, ...], new: Any, value: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", [EVIL, f"{EVIL}.Head", f"{EVIL}:Head"])
def test_loading_a_head_imports_nothing_that_its_files_name(
    folder: Path, tmp_path: Path, evil: Path, head: str, name: str
) -> None:
    (source, *_) = (folder / "exports").glob(f"{head}-*")
    description = json.loads((source / "head.json").read_text())
    places = [place for place in strings(description) if place != ("digest",)]
    assert ("head",) in places
    for number, place in enumerate(places):
        spoilt = Path(shutil.copytree(source, tmp_path / f"{number}"))
        edit_head(spoilt, partial(put, place, name))
        try_to_load(spoilt)
    added = Path(shutil.copytree(source, tmp_path / "added"))
    edit_head(added, lambda content: content.update(module=name, __class__=name, type=name))
    try_to_load(added)
    assert not evil.exists()
    assert EVIL not in sys.modules


def try_to_load(folder: Path) -> None:
    """Load a head whose files name something; that it is refused is as good as that it is not heeded."""
    try:
        load_head(folder)
    except FrozenheadError:
        return


def test_loading_a_head_imports_nothing_that_its_weights_name(folder: Path, tmp_path: Path, evil: Path) -> None:
    spoilt = Path(shutil.copytree(next((folder / "exports").glob("dense-*")), tmp_path / "head"))
    arrays = load((spoilt / "weights.safetensors").read_bytes())
    weights = save(arrays | {EVIL: np.zeros(1)}, metadata={"format": EVIL, "__reduce__": f"{EVIL}.Head"})
    (spoilt / "weights.safetensors").write_bytes(weights)
    try_to_load(spoilt)
    assert not evil.exists()


def test_a_pickle_under_the_name_of_the_weights_is_not_read(folder: Path, tmp_path: Path) -> None:
    class Loud:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "ran"), "w"))

    spoilt = Path(shutil.copytree(next((folder / "exports").glob("dense-*")), tmp_path / "head"))
    data = pickle.dumps(Loud())
    (spoilt / "weights.safetensors").write_bytes(data)
    edit_head(spoilt, lambda content: content.update(weights_sha256=hashlib.sha256(data).hexdigest()))
    with pytest.raises(FrozenheadError, match=r"weights\.safetensors cannot be used"):
        load_head(spoilt)
    assert not (tmp_path / "ran").exists()
