"""Runs in turn (A B C A B C ...), and the facts that stand beside every figure: date, machine, commit, versions."""

import datetime
import gc
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from contestants import Ours, Runner

import frozenhead

PACKAGES = ("frozenhead", "torch", "transformers", "tokenizers", "openvino", "sentence-transformers", "onnxruntime")


def say(line: str) -> None:
    """Progress goes to stderr: stdout is for results."""
    print(line, file=sys.stderr, flush=True)


def in_turn(
    runners: dict[str, Runner],
    probes: dict[str, Callable[[], float]],
    texts: list[str],
    rounds: int,
    *,
    warm_up: int = 64,
) -> dict[str, dict[str, list[float]]]:
    """For each runner its seconds in each round; what its probe gave just before; of ours the seconds in the encoder.

    `probes` has the same names: the rate of the machine, measured beside each run. Before
    the first round each runner embeds `warm_up` texts.
    """
    found: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "gemm": []} for name in runners}
    for runner in runners.values():
        runner.prepare()
        runner.run(texts[:: max(1, len(texts) // warm_up)])
    for number in range(rounds):
        for name, runner in runners.items():
            mine = found[name]
            mine["gemm"].append(probes[name]())
            mine["seconds"].append(clocked(runner, texts))
            if isinstance(runner, Ours):
                mine.setdefault("encoder_seconds", []).append(runner.meter.seconds)
            rate, gemm = len(texts) / mine["seconds"][-1], mine["gemm"][-1] / 1e9
            say(f"round {number + 1}/{rounds}  {name}: {rate:,.0f} texts/s  (GEMM {gemm:,.0f} GFLOP/s)")
    return found


def clocked(runner: Runner, texts: list[str]) -> float:
    """Seconds of one run."""
    runner.prepare()
    gc.collect()
    time.sleep(0.2)  # threads that wait by spinning come to rest
    begun = time.perf_counter()
    runner.run(texts)
    return time.perf_counter() - begun


def quiet() -> None:
    """No progress bars of transformers, and no advice of the libraries about the checkpoint."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)


def circumstances(device: str = "cpu") -> dict[str, Any]:
    """Date, commit, machine and versions."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "load_before": os.getloadavg()[0],
            **_gpu(device),
        },
        "versions": versions,
    }


def _gpu(device: str) -> dict[str, str]:
    if not device.startswith("cuda"):
        return {}
    import torch

    return {"gpu": torch.cuda.get_device_name(device), "cuda": str(torch.version.cuda)}


def _commit() -> str:
    def git(*words: str) -> str:
        place = Path(frozenhead.__file__).resolve().parent  # of what was measured
        return subprocess.run(["git", *words], cwd=place, check=True, capture_output=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
