"""A file is the old one or the new one, whatever happens while it is written."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frozenhead.errors import StorageError
from frozenhead.files import (
    canonical_json,
    new_file,
    new_folder,
    storage_errors,
    temporary_name,
    write_file,
    write_json,
)
from tests.cache.examples import raiser

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)

FULL = r"The disk or quota is full: make room, or choose another folder\."
READ_ONLY = r"Nothing can be written there: choose another folder\."
FORBIDDEN = r"No permission: choose another folder, or change its owner or mode\."
FAULT = r"The disk reports a fault: check it, or choose another folder\."
OTHER = r"Check that the folder exists and can be written\."


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that is there already."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


@pytest.mark.parametrize("data", [b"", b"\0\xff\r\n", memoryview(b"view"), bytes(100_000)], ids=len)
@pytest.mark.parametrize("exists", [True, False])
def test_what_is_written_is_what_is_there(tmp_path: Path, data: bytes | memoryview, exists: bool) -> None:
    path = tmp_path / "file"
    if exists:
        path.write_bytes(b"old, and longer than some")
    write_file(path, data)
    assert path.read_bytes() == bytes(data)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["os.fsync", "os.replace"])
@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, FULL), (errno.EDQUOT, FULL), (errno.EACCES, FORBIDDEN), (errno.EROFS, READ_ONLY),
     (errno.EIO, FAULT), (errno.EMFILE, OTHER)],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else "",
)  # fmt: skip
def test_a_write_that_fails_leaves_the_old_file_and_says_what_to_do(
    old: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int, advice: str
) -> None:
    monkeypatch.setattr(step, raiser(OSError(code, os.strerror(code))))
    with pytest.raises(StorageError, match=advice) as caught:
        write_file(old, b"new")
    assert caught.value.exit_code == 6
    assert str(caught.value).startswith(f"Cannot write {old}: {os.strerror(code)}.")
    assert old.read_bytes() == b"old"
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)], ids=repr)
def test_an_interrupted_write_leaves_the_old_file_and_no_other(
    old: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException, step: str
) -> None:
    monkeypatch.setattr(os, step, raiser(stop))
    with pytest.raises(type(stop)):
        write_file(old, b"new")
    assert old.read_bytes() == b"old"
    assert list(old.parent.iterdir()) == [old]


def test_the_bytes_are_durable_before_the_name_is_and_the_name_before_the_end(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        place = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append("folder" if place.is_dir() else f"file of {place.stat().st_size}")
        sync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr("os.fsync", synced)
    monkeypatch.setattr("os.replace", replaced)
    write_file(old, b"new")
    assert steps == ["file of 3", "rename", "folder"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_does_not_sync_folders_is_written_to(
    old: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls = iter([None, OSError(code, os.strerror(code))])  # the file, the folder

    def sync(_: int) -> None:
        error = next(calls)
        if error is not None:
            raise error

    monkeypatch.setattr("os.fsync", sync)
    write_file(old, b"new")
    assert old.read_bytes() == b"new"
    assert next(calls, "both were asked") == "both were asked"


@given(data=st.binary(max_size=300), sizes=st.lists(st.integers(1, 60)))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_system_that_takes_less_than_it_is_offered_gets_all(tmp_path: Path, data: bytes, sizes: list[int]) -> None:
    most, sound = iter(sizes), os.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, left: sound(descriptor, left[: next(most, 7)]))
        write_file(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_write_in_the_midst_of_a_write_leaves_the_later_one_whole(
    old: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """As a signal's handler does that writes the same file."""
    sound, left = getattr(os, step), ["inner"]

    def interrupted(*args: Any) -> Any:
        if left:
            write_file(old, left.pop().encode())
            assert old.read_bytes() == b"inner"
        return sound(*args)

    monkeypatch.setattr(os, step, interrupted)
    write_file(old, b"outer")
    assert old.read_bytes() == b"outer"
    assert list(old.parent.iterdir()) == [old]


def test_a_file_that_is_not_written_to_its_end_leaves_the_old_one(old: Path) -> None:
    def write(path: Path) -> None:
        with new_file(path) as file:
            file.write(b"half")
            raise RuntimeError("no more")

    for path in (old, old.parent / "new"):
        with pytest.raises(RuntimeError, match="no more"):
            write(path)
    assert old.read_bytes() == b"old"
    assert list(old.parent.iterdir()) == [old]


def test_a_new_file_can_be_read_while_it_is_written_and_stands_when_the_block_ends(old: Path) -> None:
    with new_file(old) as file:
        file.write(b"new")
        file.seek(1)
        assert file.read() == b"ew"
        assert old.read_bytes() == b"old"
    assert old.read_bytes() == b"new"


def test_what_goes_wrong_first_is_what_is_told(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", raiser(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    monkeypatch.setattr(os, "unlink", raiser(OSError(errno.EROFS, os.strerror(errno.EROFS))))
    with pytest.raises(StorageError, match=FULL):
        write_file(old, b"new")
    assert old.read_bytes() == b"old"


def test_writing_where_no_folder_is_creates_none(tmp_path: Path, old: Path) -> None:
    for path in (tmp_path / "no folder" / "file", old / "file"):
        with pytest.raises(StorageError, match=OTHER):
            write_file(path, b"new")
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_killed_writer_leaves_the_old_file(old: Path, step: str) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from frozenhead.files import write_file\n"
        f"os.{step} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_file(Path(sys.argv[1]), b'new')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(old)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert old.read_bytes() == b"old"
    [left] = [path for path in old.parent.iterdir() if path != old]
    assert left.name.startswith(".tmp-")
    write_file(old, b"new")
    assert old.read_bytes() == b"new"


def filled(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("exists", [False, True])
def test_a_new_folder_takes_the_place_of_the_old_one_whole(tmp_path: Path, exists: bool) -> None:
    place, old = tmp_path / "place", tmp_path / ".old-place"
    if exists:
        place.mkdir()
        (place / "a").write_text("old")
    with new_folder(place, old=old) as fresh:
        (fresh / "b").write_text("new")
        assert place.exists() == exists
    assert filled(place) == {"b": "new"}
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_new_folder_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    place, renamed = tmp_path / "place", os.rename
    place.mkdir()
    (place / "a").write_text("old")
    calls = 0

    def rename(source: Any, target: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        renamed(source, target)

    monkeypatch.setattr(os, "rename", rename)

    def replace() -> None:
        with new_folder(place, old=tmp_path / ".old") as fresh:
            (fresh / "b").write_text("new")
            if failing == 0:
                raise KeyboardInterrupt

    with pytest.raises((StorageError, KeyboardInterrupt)):
        replace()
    assert filled(place) == {"a": "old"}
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("number", [1, 2])
def test_a_killed_new_folder_leaves_nothing_half(tmp_path: Path, number: int) -> None:
    place, old = tmp_path / "place", tmp_path / ".old"
    place.mkdir()
    (place / "a").write_text("old")
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from frozenhead.files import new_folder\n"
        "renamed, calls = os.rename, []\n"
        "def rename(*names):\n"
        "    calls.append(names)\n"
        f"    if len(calls) == {number}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    renamed(*names)\n"
        "os.rename = rename\n"
        "with new_folder(Path(sys.argv[1]), old=Path(sys.argv[2])) as fresh: (fresh / 'b').write_text('new')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(place), str(old)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert filled(place if number == 1 else old) == {"a": "old"}
    assert place.exists() == (number == 1)
    with new_folder(place, old=old) as fresh:
        (fresh / "b").write_text("new")
    assert filled(place) == {"b": "new"}
    assert not old.exists()


def test_temporary_names_are_fresh_hidden_and_name_their_process() -> None:
    names = {temporary_name() for _ in range(100)}
    assert len(names) == 100
    for name in names:
        prefix, host, pid, random = name.removeprefix(".").split("-")
        assert (prefix, pid) == ("tmp", str(os.getpid()))
        assert host
        assert len(random) == 16


def test_the_name_of_a_host_may_hold_hyphens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "my-own-host")
    assert temporary_name().startswith(f".tmp-my_own_host-{os.getpid()}-")


def test_a_storage_error_goes_through_unchanged(tmp_path: Path) -> None:
    first = StorageError("the first reason")
    with pytest.raises(StorageError) as caught, storage_errors(tmp_path, "write"):
        raise first
    assert caught.value is first


@given(value=JSON)
def test_canonical_json_gives_the_value_back(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


def test_canonical_json_is_one_byte_string_whatever_the_order() -> None:
    one, two = {"b": [1, 2.5], "a": {"ü": None}}, {"a": {"ü": None}, "b": [1, 2.5]}
    assert canonical_json(one) == canonical_json(two) == '{"a":{"ü":null},"b":[1,2.5]}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_is_no_number_before_it_touches_the_file(old: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(old, {"loss": [value]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)
    assert old.read_bytes() == b"old"


def test_json_is_written_for_people(old: Path) -> None:
    write_json(old, {"name": "Größe", "rows": 2})
    assert old.read_text("utf-8") == '{\n  "name": "Größe",\n  "rows": 2\n}\n'
