"""A folder that is made is there after a power cut as well, or it is said why not."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from frozenhead.errors import StorageError
from frozenhead.files import check_writable, make_folder, sync_folder, write_file
from tests.cache.examples import raiser

FAULT = r"The disk reports a fault: check it, or choose another folder\."
READ_ONLY = r"Nothing can be written there: choose another folder\."


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """Every folder that is made or synced, in order."""
    made: list[tuple[str, Path]] = []
    mkdir, sync = os.mkdir, os.fsync

    def making(path: Path, mode: int = 0o777) -> None:
        mkdir(path, mode)
        made.append(("mkdir", Path(path)))

    def syncing(descriptor: int) -> None:
        made.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        sync(descriptor)

    monkeypatch.setattr(os, "mkdir", making)
    monkeypatch.setattr(os, "fsync", syncing)
    return made


def test_every_folder_that_is_made_is_durable_before_the_next_is_made_in_it(
    tmp_path: Path, calls: list[tuple[str, Path]]
) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    parents = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    made = [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "c"]
    assert calls == [call for f, p in zip(made, parents, strict=True) for call in (("mkdir", f), ("fsync", p))]


def test_the_name_of_a_folder_that_was_there_is_made_durable_too(tmp_path: Path, calls: list[tuple[str, Path]]) -> None:
    """Who made it may have been killed before that."""
    (tmp_path / "a").mkdir()
    calls.clear()
    make_folder(tmp_path / "a")
    assert calls == [("fsync", tmp_path)]


def test_a_folder_is_made_with_its_mode_and_found_again_with_its_content(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", mode=0o700)
    (tmp_path / "a" / "b" / "file").write_bytes(b"kept")
    make_folder(tmp_path / "a" / "b", mode=0o755)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")] == [0o700, 0o700]
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"kept"


def test_a_folder_that_another_makes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = os.mkdir

    def too_late(path: Path, mode: int = 0o777) -> None:
        mkdir(path)
        mkdir(path, mode)

    monkeypatch.setattr(os, "mkdir", too_late)
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_parent_that_may_be_entered_and_not_read_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = os.open

    def refuse(path: Path, *args: Any) -> int:
        if Path(path) == tmp_path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return sound(path, *args)

    monkeypatch.setattr(os, "open", refuse)
    sync_folder(tmp_path)
    make_folder(tmp_path / "a")
    write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_folder_whose_sync_fails_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", raiser(OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(StorageError, match=FAULT):
        make_folder(tmp_path / "a")


def test_a_file_where_a_folder_belongs_is_a_storage_error(tmp_path: Path) -> None:
    old = tmp_path / "file"
    old.write_bytes(b"old")
    for path in (old, old / "below"):
        with pytest.raises(StorageError, match="Cannot create"):
            make_folder(path)


def test_a_folder_is_tried_by_writing_into_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    for folder in ("there", "a/b"):
        check_writable(tmp_path / folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "a"]  # nothing new stays but a parent
    sound = os.open

    def refuse(path: Path, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return sound(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match=READ_ONLY):
        check_writable(tmp_path / "a" / "b")
