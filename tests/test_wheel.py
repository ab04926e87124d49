"""The wheel installs into a clean environment and works there."""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow


def run(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], check=False, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "frozenhead", source / "frozenhead", ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
    return next(folder.glob("frozenhead-*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    package = REPOSITORY / "frozenhead"
    templates = {path.relative_to(REPOSITORY).as_posix() for path in package.glob("*/templates/**/*") if path.is_file()}
    assert {"frozenhead/report/templates/page.js", "frozenhead/commands/templates/card.md.j2"} <= templates
    assert {"frozenhead/py.typed", "frozenhead/cli.py"} | templates <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"frozenhead"}


def test_the_wheel_works_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", "-c", REPOSITORY / "constraints.txt", wheel)
    assert "embed" in run(binaries / "frozenhead", "--help")
    table = tmp_path / "texts.csv"
    table.write_text("text,label\n" + "".join(f"win {i},spam\nthe cat {i},ham\n" for i in range(20)))
    told = subprocess.run(
        [binaries / "frozenhead", "embed", table],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert told.returncode == 4  # the extra is not installed
    assert "pip install 'frozenhead[minilm]'" in told.stderr
