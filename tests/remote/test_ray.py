"""Data and cache both in an object store, and Ray between them: no host needs a disk that another one sees."""

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.fleet.conftest import assert_same_vectors, make_texts, run_rows
from tests.fleet.raying import started

pytest.importorskip("ray", reason="Ray is not installed: pip install 'frozenhead[ray]'")
pytestmark = [pytest.mark.ray, pytest.mark.slow]


def put_table(boto: Any, bucket: str, name: str, texts: list[str]) -> None:
    data = io.BytesIO()
    pd.DataFrame({"text": texts, "label": [text[:1] for text in texts]}).to_parquet(data)
    boto.put_object(Bucket=bucket, Key=name, Body=data.getvalue())


def test_ray_embeds_a_folder_of_a_bucket_into_a_bucket(
    boto: Any, settings: dict[str, str], bucket: str, url: str, tiny_folder: Path, tmp_path: Path
) -> None:
    texts = make_texts(300)
    for part in range(3):
        put_table(boto, bucket, f"in/part-{part}.parquet", texts[part * 100 : (part + 1) * 100])
    words = ["embed", f"s3://{bucket}/in", "--format", "parquet", "--no-label", "--model", str(tiny_folder), "--json"]
    words += ["--precision", "fp32", "--backend", "torch"]
    found = {"AWS_ENDPOINT_URL": settings["AWS_ENDPOINT_URL_S3"]}  # the name that Arrow knows
    by_ray = [
        "--engine",
        "ray",
        "--workers",
        "2",
        "--gpus-per-worker",
        "0",
        "--cache-dir",
        url,
        "--out",
        str(tmp_path / "by-ray"),
    ]
    with started(*words, *by_ray, FROZENHEAD_MIRROR_DIR=str(tmp_path / "a"), **found) as job:
        embedded = job.result()
    assert embedded["computed"] == sum(embedded["ray"]["workers"].values()) == len(set(texts))
    again = ["--cache-dir", url, "--out", str(tmp_path / "again")]
    with started(*words, *again, FROZENHEAD_MIRROR_DIR=str(tmp_path / "b"), **found) as job:
        other = job.result()  # on a machine that has nothing
    assert (other["computed"], other["cached"]) == (0, len(set(texts)))
    alone = ["--cache-dir", str(tmp_path / "alone"), "--out", str(tmp_path / "run")]
    with started(*words, *alone, **found) as job:
        job.result()
    assert_same_vectors(url, tmp_path / "alone", set(texts))
    assert run_rows(tmp_path / "by-ray").equals(run_rows(tmp_path / "run"))
