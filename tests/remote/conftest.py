"""Machines that share nothing but an object store on a real S3 server."""

import importlib.util
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from frozenhead.cache import SpaceStore, VectorCache
from frozenhead.cache import remote as remote_module
from tests.cache.examples import make_space
from tests.remote.server import Proxy, s3_server

_NEEDED = ("s3fs", "moto", "flask")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-sees"}


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of an S3 server."""
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        pytest.skip(f"the extras remote and dev are not installed: no {', '.join(missing)}")
    with s3_server() as address:
        yield address


@pytest.fixture
def settings(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The environment in which the server is found."""
    given = {
        **CREDENTIALS,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": server,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


@pytest.fixture
def fresh() -> Iterator[None]:
    """No connection of another test, made with another address or other credentials, is used, and none is left."""
    remote_module.connect.cache_clear()
    yield
    remote_module.connect.cache_clear()


@pytest.fixture
def boto(settings: dict[str, str], fresh: None) -> Any:
    """A client of the server that is not ours: boto3's."""
    import boto3

    client = boto3.client("s3", endpoint_url=settings["AWS_ENDPOINT_URL_S3"])
    yield client
    client.close()


@pytest.fixture
def bucket(boto: Any) -> str:
    """A new bucket."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    boto.create_bucket(Bucket=name)
    return name


@pytest.fixture
def url(bucket: str) -> str:
    """A place in it."""
    return f"s3://{bucket}/vectors/of us"


@pytest.fixture
def proxy(settings: dict[str, str], bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The server is reached through a proxy that can do harm."""
    with Proxy(settings["AWS_ENDPOINT_URL_S3"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        remote_module.connect.cache_clear()
        yield proxy
        remote_module.connect.cache_clear()


Machine = Callable[..., SpaceStore]


@pytest.fixture
def machine(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """`machine("a")`: the store of a small space as that machine has it, with a mirror of its own."""

    def opened(name: str, **space: Any) -> SpaceStore:
        monkeypatch.setenv("FROZENHEAD_MIRROR_DIR", str(tmp_path / name))
        return VectorCache(url).space(make_space(**space))

    return opened


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may pass is tried again for less than a second."""
    monkeypatch.setattr(remote_module, "PATIENCE_SECONDS", 0.7)
    monkeypatch.setattr(remote_module, "_FIRST_WAIT", 0.02)


def objects(boto: Any, bucket: str) -> dict[str, bytes]:
    """Every object of a bucket, as boto3 reads it."""
    pages = boto.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    names = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {name: boto.get_object(Bucket=bucket, Key=name)["Body"].read() for name in names}


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path there."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and os.access(p, 4)}
