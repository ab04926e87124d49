"""The process that runs jobs, and a folder on memory where there is one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.driver import Driver
from tests.faults.jobs import at_once


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long figures run only when they are asked for."""
    if "long" not in config.option.markexpr:
        items[:] = [item for item in items if item.get_closest_marker("long") is None]


@pytest.fixture(scope="session")
def driver() -> Iterator[Driver]:
    """Runs jobs in processes of their own."""
    driver = Driver()
    yield driver
    driver.close()


@pytest.fixture(autouse=True)
def _in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test itself reads without threads: thousands of lookups of three small shards. The driver does not."""
    monkeypatch.setattr(ThreadPoolExecutor, "submit", at_once)
