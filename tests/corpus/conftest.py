from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")

WriteBytes = Callable[[str, bytes], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteBytes:
    """Write bytes to a file of the current folder, so that messages name it as a user would."""
    monkeypatch.chdir(tmp_path)

    def write_bytes(name: str, data: bytes) -> Path:
        path = Path(name)
        path.write_bytes(data)
        return path

    return write_bytes
