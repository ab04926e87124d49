"""The process that forks the children, a folder on memory where there is one, and file systems of our own."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hardship.nursery import Nursery


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Runs jobs in processes of their own."""
    nursery = Nursery(tmp_path_factory.mktemp("said"))
    yield nursery
    nursery.close()


Mount = Callable[[str], Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """`mount("size=256k")`: a tmpfs with these options; called again, the same with other options."""
    place = tmp_path / "mounted"
    mounted = False

    def call(options: str) -> Path:
        nonlocal mounted
        place.mkdir(exist_ok=True)
        words = ["mount", "-o", f"remount,{options}"] if mounted else ["mount", "-t", "tmpfs", "-o", options, "tmpfs"]
        try:
            done = subprocess.run([*words, str(place)], capture_output=True, text=True, timeout=30, check=False)
        except FileNotFoundError:
            pytest.skip("this system has no mount")
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted = True
        return place

    yield call
    if mounted:
        subprocess.run(["umount", "--lazy", str(place)], timeout=30, check=True)
