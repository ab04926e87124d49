"""A folder that must not hold the cache is refused before anything is written, and it is said what to do."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from frozenhead.cache import VectorCache
from frozenhead.errors import CacheDamaged, FormatRefused, FrozenheadError, StorageError
from tests.cache.examples import assert_held, make_space, raiser, write_rows

CHOOSE = "hoose another folder with --cache-dir or FROZENHEAD_CACHE_DIR."
STRANGER = 4711


def owned_by(monkeypatch: pytest.MonkeyPatch, folder: Path, user: int) -> None:
    """`folder` belongs to a user, whoever runs the tests."""
    sound = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        status = sound(path, **options)
        if isinstance(path, int) or Path(path) != folder:
            return status
        return os.stat_result([*status[:4], user, *status[5:]])

    monkeypatch.setattr(os, "stat", stat)


def a_file(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.write_text("a file")


def of_another_user(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    owned_by(patch, folder, STRANGER + 1)
    patch.setattr(os, "geteuid", lambda: STRANGER)


def of_another_user_and_we_are_root(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    owned_by(patch, folder, STRANGER)
    patch.setattr(os, "geteuid", lambda: 0)


def newer(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for name in ("v1", "v2", "v10"):
        (folder / name).mkdir(parents=True)


def a_package(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "__init__.py").touch()


def below_a_package(folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder.parent / "__init__.py").touch()


def linked_into_a_package(folder: Path, patch: pytest.MonkeyPatch) -> None:
    package = folder.parent / "package" / "sub"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    folder.symlink_to(package)


def format_linked_out(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder.parent / "elsewhere").mkdir()
    (folder / "v1").symlink_to(folder.parent / "elsewhere")


def format_linked_inside(folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder / "real").mkdir(parents=True)
    (folder / "v1").symlink_to("real")


def format_linked_nowhere(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "v1").symlink_to(folder.parent / "nowhere")


def not_to_be_listed(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    patch.setattr(os, "listdir", raiser(PermissionError(13, "Permission denied")))


def below_a_file(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.parent.rmdir()
    folder.parent.write_text("a file")


REFUSED: list[tuple[Callable[[Path, pytest.MonkeyPatch], None], type[FrozenheadError], str, str]] = [
    (a_file, StorageError, "is a file, not a folder", CHOOSE),
    (of_another_user, StorageError, f"belongs to user {STRANGER + 1}, and you are {STRANGER}:", CHOOSE),
    (of_another_user_and_we_are_root, StorageError, f"belongs to user {STRANGER}, and you are 0:", CHOOSE),
    (newer, FormatRefused, "holds format v10; this version", f"Upgrade frozenhead. Or: c{CHOOSE}"),
    (a_package, StorageError, "inside the Python package", CHOOSE),
    (below_a_package, StorageError, "inside the Python package", CHOOSE),
    (linked_into_a_package, StorageError, "inside the Python package", CHOOSE),
    (format_linked_out, CacheDamaged, "is a link, to", "Remove the link"),
    (format_linked_inside, CacheDamaged, "is a link, to", "Remove the link"),
    (format_linked_nowhere, CacheDamaged, "is a link, to", "Remove the link"),
    (not_to_be_listed, StorageError, "No permission", "choose another folder"),
    (below_a_file, StorageError, "Not a directory", "Check that the folder exists"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "found", "advice"), REFUSED, ids=[case[0].__name__ for case in REFUSED])
def test_a_folder_that_must_not_be_the_cache_is_refused_with_the_way_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path, pytest.MonkeyPatch], None],
    error: type[FrozenheadError],
    found: str,
    advice: str,
) -> None:
    folder = tmp_path / "home" / "cache"
    folder.parent.mkdir()
    make(folder, monkeypatch)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FrozenheadError) as caught:
        VectorCache(folder)
    message = str(caught.value)
    assert type(caught.value) is error
    assert caught.value.exit_code == (6 if error is StorageError else 5)
    assert found in message
    assert advice in message
    assert str(folder) in message
    assert len(message.splitlines()) <= 3
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [".", "v1", f"v1/{make_space().id}"])
def test_a_link_to_itself_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "cache" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.name)
    with pytest.raises((StorageError, CacheDamaged)):
        write_rows(VectorCache(tmp_path / "cache").space(make_space()), ["a"])


def missing(folder: Path, patch: pytest.MonkeyPatch) -> None:
    pass


def of_root(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    owned_by(patch, folder, 0)
    patch.setattr(os, "geteuid", lambda: STRANGER)


def ours(folder: Path, patch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    owned_by(patch, folder, STRANGER)
    patch.setattr(os, "geteuid", lambda: STRANGER)


def a_link(folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder.parent / "large disk").mkdir()
    folder.symlink_to(folder.parent / "large disk")


def beside_a_package(folder: Path, patch: pytest.MonkeyPatch) -> None:
    (folder.parent / "package").mkdir()
    (folder.parent / "package" / "__init__.py").touch()


def with_other_files(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for name in ("v", "v2x", "xv2", "v0"):
        (folder / name).mkdir(parents=True)


@pytest.mark.parametrize(
    "make",
    [
        missing,
        of_root,
        ours,
        a_link,
        beside_a_package,
        with_other_files,
    ],
)
def test_any_other_folder_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path, pytest.MonkeyPatch], None]
) -> None:
    make(tmp_path / "cache", monkeypatch)
    for _ in range(2):  # also when it is there
        store = VectorCache(tmp_path / "cache").space(make_space())
        write_rows(store, ["a"])
        assert_held(store, ["a"])


SUBFOLDERS = ["", "shards", "pins", "quarantine"]


@pytest.mark.parametrize("name", SUBFOLDERS, ids=lambda name: name or "the space")
@pytest.mark.parametrize("there", [True, False], ids=["there", "not there"])
def test_a_space_with_a_link_that_leads_out_is_refused(tmp_path: Path, name: str, there: bool) -> None:
    cache, outside = VectorCache(tmp_path / "cache"), tmp_path / "outside"
    link = tmp_path / "cache" / "v1" / make_space().id / name
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    if there:
        outside.mkdir()
        (outside / "precious").write_text("not ours")
    uses: list[Callable[[], Any]] = [lambda: cache.space(make_space())]
    if there or name:  # a space that is a link to nothing is no space to list
        uses += [cache.spaces, cache.check_all, cache.prune, lambda: cache.open_space(make_space().id)]
    for use in uses:
        with pytest.raises(CacheDamaged, match="is a link, to") as caught:
            use()
        assert str(link) in str(caught.value)
        assert str(outside) in str(caught.value)
        assert "Remove the link" in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 3
    assert not there or (outside / "precious").read_text() == "not ours"
    assert outside.exists() == there


@pytest.mark.parametrize("name", ["", "shards"], ids=["the space", "shards"])
def test_a_link_to_another_space_takes_no_row_from_it(tmp_path: Path, name: str) -> None:
    cache, other = VectorCache(tmp_path / "cache"), make_space(pooling="cls")
    write_rows(cache.space(make_space()), ["a"])
    link = tmp_path / "cache" / "v1" / other.id / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(cache.space(make_space()).folder / name)
    for use in (lambda: cache.space(other), cache.spaces, cache.check_all, cache.prune):
        with pytest.raises(CacheDamaged, match="or to another space"):
            use()
    assert_held(cache.space(make_space()), ["a"])
