"""From the results that `embed.py` and `gpu.py` wrote to tables in Markdown and a picture. Measures nothing."""

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

DEFAULT = "sentence-transformers fp32 batch 32"
NOTEBOOK = "notebook fp32 batch 32"
CLOSE = 0.999  # least cosine of a class of arithmetic that may stand for fp32

Found = dict[str, Any]
"""What was measured of one contestant."""


def spread(values: list[float], form: str) -> str:
    """Median (range)."""
    middle = format(statistics.median(values), form)
    return middle if len(values) == 1 else f"{middle} ({format(min(values), form)} to {format(max(values), form)})"


def paired(one: Found, other: Found) -> list[float]:
    """How many times faster `one` was, round by round."""
    return [b / a for a, b in zip(one["seconds"], other["seconds"], strict=True)]


def shares(found: Found, operations: str, seconds: str = "seconds") -> list[float]:
    """Percent of the machine's rate in products of matrices, measured just before each run."""
    return [100 * found[operations] / s / rate for s, rate in zip(found[seconds], found["gemm"], strict=True)]


def heading(results: dict[str, Any]) -> str:
    """When, where, and of what."""
    machine, versions = results["machine"], results["versions"]
    place = f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gib']} GiB"
    place += f", load {machine['load_before']:.1f}"
    if "gpu" in machine:
        place = f"{machine['gpu']}; {place}"
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"{results['date']}, commit {results['commit']}. {place}. {named}. Rounds in turn: {results['rounds']}."


def size(name: str, corpus: dict[str, Any]) -> str:
    """What was embedded."""
    texts, tokens = corpus["texts"], corpus["tokens"]
    return (
        f"**{name}**: {texts:,} texts, {tokens:,} tokens ({tokens / texts:.0f} a text), cut at {corpus['max_length']}."
    )


def table(corpus: dict[str, Any]) -> str:
    """All contestants on one corpus. What was not measured of any has no column."""
    found: dict[str, Found] = corpus["contestants"]
    columns = {"what": list(found)}
    for name, cell in _columns(corpus).items():
        columns[name] = [cell(one) for one in found.values()]
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    rows = zip(*columns.values(), strict=True)
    return "\n".join([_row(list(columns)), "| --- " * len(columns) + "|", *(_row(list(row)) for row in rows)])


def _columns(corpus: dict[str, Any]) -> dict[str, Callable[[Found], str]]:
    default = corpus["contestants"].get(corpus.get("default", DEFAULT))
    columns: dict[str, Callable[[Found], str]] = {
        "texts/s": lambda one: spread([corpus["texts"] / s for s in one["seconds"]], ",.0f"),
        "tokens/s": lambda one: f"{corpus['tokens'] / statistics.median(one['seconds']):,.0f}",
        "times the default": lambda one: spread(paired(one, default), ".2f") if default else "",
        "% of GEMM": lambda one: spread(shares(one, "operations"), ".0f"),
        "% of the run in the encoder": _inside,
        "least cosine": lambda one: f"{one['cosine']:.7f}",
        "head's accuracy, %": lambda one: f"{100 * one['accuracy']:.2f}" if "accuracy" in one else "",
        "peak memory, MiB": lambda one: f"{one['memory_mib']:,.0f}" if one["memory_mib"] is not None else "",
    }
    for name, rate in corpus.get("mfu_of", {}).items():
        columns[f"MFU, % of {name}"] = partial(_mfu, rate)
    return columns


def _inside(one: Found) -> str:
    if "encoder_seconds" not in one:
        return ""
    return spread([100 * e / s for e, s in zip(one["encoder_seconds"], one["seconds"], strict=True)], ".0f")


def _mfu(rate: float, one: Found) -> str:
    return spread([100 * one["operations"] / s / rate for s in one["seconds"]], ".1f")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def ladder(corpus: dict[str, Any]) -> str:
    """What is claimed, with the figure that it must reach and the one it aims at."""
    lines = [_row(["figure", "measured", "must", "aim"]), "| --- " * 4 + "|"]
    for pooling in ("mean", "pooler"):
        lines += [_row(row) for row in _speed(corpus["contestants"], pooling)]
    ours = {name: one for name, one in corpus["contestants"].items() if one["ours"]}
    for name, one in ours.items():
        must, aim = {"fp32": ("75", "90"), "bf16": ("65", "85")}[one["precision"]]
        inside = f"; in the encoder {spread(shares(one, 'operations_done', 'encoder_seconds'), '.0f')}"
        lines.append(_row([f"% of GEMM, {name}", spread(shares(one, "operations_done"), ".0f") + inside, must, aim]))
    lines += [
        _row([f"% of a run spent on the cache, {n}", f"{100 * o['cache_share']:.2f}", "3", ""]) for n, o in ours.items()
    ]
    lines += [
        _row([f"% of tokens that are padding, {n}", f"{100 * o['padding']:.2f}", "2", ""]) for n, o in ours.items()
    ]
    return "\n".join(lines + _accuracy(ours))


def _speed(found: dict[str, Found], pooling: str) -> list[list[str]]:
    """Ours with one pooling against each peer that is there."""
    ours = {name: one for name, one in found.items() if one["ours"] and one["pooling"] == pooling}
    exact = _fastest({name: one for name, one in ours.items() if one["precision"] == "fp32"})
    best = _fastest({name: one for name, one in ours.items() if one["cosine"] >= CLOSE})
    half = _fastest({n: one for n, one in found.items() if n.startswith("sentence-transformers bf16")})
    wanted = [
        (exact, DEFAULT, "1.5", "1.7"),
        (best, DEFAULT, "2.8", "3.5"),
        (best, half, "1.6", "2.0"),
        (best, NOTEBOOK, "8", "12"),
    ]
    return [
        [f"{one} / {other}", spread(paired(found[one], found[other]), ".2f"), must, aim]
        for one, other, must, aim in wanted
        if one in found and other in found
    ]


def _fastest(found: dict[str, Found]) -> str | None:
    return min(found, key=lambda name: statistics.median(found[name]["seconds"]), default=None)


def _accuracy(ours: dict[str, Found]) -> list[str]:
    """By how much the head's accuracy differs between fp32 and the other precisions of the same backend."""
    rows = []
    for name, one in ours.items():
        twin = ours.get(name.replace(one["precision"], "fp32"))
        if twin and twin is not one and "accuracy" in one:
            points = 100 * (one["accuracy"] - twin["accuracy"])
            rows.append(_row([f"accuracy less that of fp32, points, {name}", f"{points:+.2f}", "0.2 either way", ""]))
    return rows


def alt_text(corpus: dict[str, Any]) -> str:
    """The picture in a sentence."""
    found = corpus["contestants"]
    best = _fastest({name: one for name, one in found.items() if one["ours"]})
    times = f"{statistics.median(paired(found[best], found[DEFAULT])):.1f}" if best else "no"
    return f"Bar chart of texts per second: {best} does {times} times as many as sentence-transformers' default."


def draw(corpus: dict[str, Any], path: Path) -> None:
    """Bars of texts per second relative to sentence-transformers' default, the fastest on top."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({"svg.hashsalt": "frozenhead", "font.size": 9})
    from matplotlib import pyplot as plt

    found = corpus["contestants"]
    names = sorted(found, key=lambda name: statistics.median(paired(found[name], found[DEFAULT])))
    times = [paired(found[name], found[DEFAULT]) for name in names]
    middles = [statistics.median(t) for t in times]
    lows = [m - min(t) for m, t in zip(middles, times, strict=True)]
    highs = [max(t) - m for m, t in zip(middles, times, strict=True)]
    figure, axes = plt.subplots(figsize=(7.5, 0.8 + 0.27 * len(names)), layout="constrained", facecolor="white")
    colours = ["#0b6e6e" if found[name]["ours"] else "#9aa3ad" for name in names]
    axes.barh(names, middles, color=colours, height=0.72)
    axes.errorbar(middles, names, xerr=[lows, highs], fmt="none", ecolor="#333333", elinewidth=0.9, capsize=2)
    for name, middle, high in zip(names, middles, highs, strict=True):
        rate = corpus["texts"] / statistics.median(found[name]["seconds"])
        axes.annotate(
            f"{middle:.2f}×  {rate:,.0f} texts/s", (middle + high, name), xytext=(5, 0), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip
    axes.axvline(1, color="#333333", linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, 1.3 * max(m + h for m, h in zip(middles, highs, strict=True))))
    axes.set_xlabel("times sentence-transformers' default (median and range)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
