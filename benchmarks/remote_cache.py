"""A cache in an object store against plain boto3 on the same server: listing, uploading and fetching shards.

    python benchmarks/remote_cache.py --names 10000 --shards 12 --repeats 5

The server is moto's, on loopback and on the same processors: read the ratios. Prints a table in Markdown.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import numpy as np

from frozenhead.cache import Space, VectorCache, text_keys
from tests.remote.server import s3_server

DIM, ROWS = 384, 20_000  # 30 MiB a shard
SPACE = Space(files=(("model.safetensors", "a" * 64),), pooling="pooler", max_length=128, dim=DIM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=int, default=10_000)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    with s3_server() as address, tempfile.TemporaryDirectory() as folder:
        os.environ |= {"AWS_ENDPOINT_URL_S3": address, "FROZENHEAD_MIRROR_DIR": folder}
        client = boto3.client("s3", endpoint_url=address)
        client.create_bucket(Bucket="bench")
        print("| what | ours | boto3 | ratio (range) |\n| --- | --- | --- | --- |")
        listing(client, options.names, options.repeats)
        transfer(client, options.shards, options.repeats, Path(folder))


def listing(client: Any, names: int, repeats: int) -> None:
    begin = f"names/v1/{SPACE.id}/shards/"
    keys = [f"{begin}{hashlib.sha256(str(i).encode()).hexdigest()}.safetensors" for i in range(names)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket="bench", Key=key, Body=b""), keys))
    store = VectorCache("s3://bench/names").space(SPACE)
    pages = client.get_paginator("list_objects_v2")

    def plain() -> None:
        found = [e["Key"] for p in pages.paginate(Bucket="bench", Prefix=begin) for e in p["Contents"]]
        assert len(found) == names

    def ours() -> None:
        assert len(store.pin()) == names

    compare(f"list {names:,} names", ours, plain, repeats)


def transfer(client: Any, shards: int, repeats: int, mirrors: Path) -> None:
    rng = np.random.default_rng(0)
    blocks = [(text_keys(f"{s} {i}" for i in range(ROWS)), rng.random((ROWS, DIM), np.float32)) for s in range(shards)]
    tokens = np.ones(ROWS, np.int32)
    megabytes = shards * ROWS * (DIM * 4 + 36) / 2**20

    def upload() -> None:
        with VectorCache("s3://bench/moved").space(SPACE).writer(flush_bytes=1) as writer:
            for keys, vectors in blocks:
                writer.add(keys, vectors, tokens)

    upload()
    files = sorted(mirrors.glob("*moved*/v1/*/shards/*.safetensors"))
    data = [path.read_bytes() for path in files]
    wanted = np.concatenate([keys[:10] for keys, _ in blocks])

    def plain_upload() -> None:
        for i, content in enumerate(data):
            client.put_object(Bucket="bench", Key=f"plain/{i}", Body=content)

    def fetch() -> None:
        for folder in mirrors.glob("*moved*"):
            shutil.rmtree(folder)
        assert VectorCache("s3://bench/moved").space(SPACE).lookup(wanted).found.all()

    def plain_fetch() -> None:
        for i in range(shards):
            content = client.get_object(Bucket="bench", Key=f"plain/{i}")["Body"].read()
            (mirrors / "plain").write_bytes(content)
            hashlib.sha256(content).hexdigest()

    compare(f"write {shards} shards, {megabytes:.0f} MiB", upload, plain_upload, repeats, megabytes)
    compare(f"fetch and verify {shards} shards, {megabytes:.0f} MiB", fetch, plain_fetch, repeats, megabytes)


def compare(
    what: str, ours: Callable[[], None], theirs: Callable[[], None], repeats: int, megabytes: float = 0.0
) -> None:
    """Time both in turn and print a row."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    ratios = [a / b for a, b in pairs]
    cells = []
    for column in zip(*pairs, strict=True):
        middle = statistics.median(column)
        cells.append(f"{middle:.2f} s" + (f" ({megabytes / middle:.0f} MiB/s)" if megabytes else ""))
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"| {what} | {cells[0]} | {cells[1]} | {spread} |")


def seconds(use: Callable[[], None]) -> float:
    begun = time.perf_counter()
    use()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
