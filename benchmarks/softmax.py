"""The softmax head beside scikit-learn's LogisticRegression: one fit, a sweep of 45 penalties, and memory.

    python benchmarks/softmax.py fit                    100,000 x 768, 20 classes, made vectors
    python benchmarks/softmax.py sweep [--run RUN]      45 values of C against GridSearchCV, made vectors or a run's
    python benchmarks/softmax.py memory                 a memory map of 1,000,000 x 384, an epoch of the dense head too

Runs are in turn (A B A B ...). Objectives are compared in float64, as what each is above the least that anyone found
(ours with `tol=1e-10` among them); seconds mean little where these differ. Made vectors have what those of a BERT
have: a large common mean, and variances over 6 decades.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from frozenhead.heads import DenseHead, SoftmaxHead, softmax_path

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]


def made_rows(n: int, dim: int, classes: int, *, spread: float = 0.25, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    lengths = np.arange(1, dim + 1) ** -0.5 * np.logspace(0, -2, dim)
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    mean = 5 * turn[0]
    codes = rng.integers(0, classes, n)
    centres = rng.normal(size=(classes, dim)) * spread
    X = np.empty((n, dim), np.float32)
    for i in range(0, n, 10_000):
        block = codes[i : i + 10_000]
        X[i : i + 10_000] = ((centres[block] + rng.normal(size=(len(block), dim))) * lengths) @ turn + mean
    return X, codes


def objective(model: Any, X: NDArray[np.float32], y: NDArray[np.int64], l2: float) -> float:
    """sum_i CE / N + (l2/2) ||W||^2 in float64, of our coefficients or scikit-learn's."""
    W, b = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
    if len(W) == 1:
        W, b = np.concatenate([-W, W]) / 2, np.concatenate([-b, b]) / 2
    loss = 0.0
    for i in range(0, len(X), 10_000):
        z = X[i : i + 10_000].astype(np.float64) @ W.T + b
        loss += float((logsumexp(z, axis=1) - z[np.arange(len(z)), y[i : i + 10_000]]).sum())
    return loss / len(X) + l2 / 2 * float((W**2).sum())


def inverse_strength(l2: float, n: int, classes: int) -> float:
    return (2 if classes == 2 else 1) / (l2 * n)


def in_turn(
    runners: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, tuple[list[float], Any]]:
    """Seconds of each round by the clock, and the last result."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    results = {}
    for number in range(rounds):
        for name, run in runners.items():
            begun = clock()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # its excess says as much
                results[name] = run()
            seconds[name].append(clock() - begun)
            print(f"round {number + 1}/{rounds}  {name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return {name: (seconds[name], results[name]) for name in runners}


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def ratios(theirs: list[float], ours: list[float]) -> str:
    return spread([a / b for a, b in zip(theirs, ours, strict=True)])


def one_fit(args: argparse.Namespace) -> None:
    X, y = made_rows(args.rows, args.dim, args.classes)
    for l2 in args.l2:
        C = inverse_strength(l2, len(X), args.classes)
        runners: dict[str, Callable[[], Any]] = {"ours": lambda l2=l2: SoftmaxHead(l2=l2, class_weight=None).fit(X, y)}
        for tol in args.tol:
            runners[f"scikit-learn tol={tol:g}"] = lambda tol=tol, C=C: LogisticRegression(
                C=C, tol=tol, max_iter=100_000
            ).fit(X, y)
        found = in_turn(runners, args.rounds, time.process_time if args.cpu else time.perf_counter)
        best = SoftmaxHead(l2=l2, class_weight=None, tol=1e-10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            best.fit(X, y)
        values = {name: objective(model, X, y, l2) for name, (_, model) in found.items()}
        least = min(objective(best, X, y, l2), *values.values())
        print(f"\n{X.shape[0]:,} x {X.shape[1]}, {args.classes} classes, l2 {l2:g} (C {C:g}), objective {least:.6f}")
        print("| who | seconds | iterations | above the optimum | theirs / ours |\n| --- | --- | --- | --- | --- |")
        for name, (seconds, model) in found.items():
            ratio = ratios(seconds, found["ours"][0])
            iterations, above = int(np.max(model.n_iter_)), values[name] / least - 1
            print(f"| {name} | {spread(seconds)} | {iterations} | {above:.1e} | {ratio} |")


def run_rows(folder: Path, cache: Path | None) -> tuple[Rows, Rows]:
    from frozenhead.commands.vectors import run_vectors
    from frozenhead.runs import Run

    run = Run.open(folder)
    corpus = run.corpus()
    name, record = next(iter(run.features().items()))
    X = run_vectors(run, record, corpus, name=name, cache_dir=cache).astype(np.float32)
    y = np.unique(corpus["label"].astype(str), return_inverse=True)[1]
    train, val = ((corpus["split"] == split).to_numpy() for split in ("train", "val"))
    return (X[train], y[train]), (X[val], y[val])


def sweep(args: argparse.Namespace) -> None:
    if args.run:
        (X, y), (Xv, yv) = run_rows(args.run, args.cache_dir)
    else:
        both = made_rows(args.rows + args.rows // 5, args.dim, args.classes)
        (X, y), (Xv, yv) = [(a[s], b[s]) for a, b in [both] for s in (slice(args.rows), slice(args.rows, None))]
    classes = int(y.max()) + 1
    Cs = np.logspace(-6, 5, 45)
    l2s = [inverse_strength(C, len(X), classes) for C in Cs]
    split = PredefinedSplit(np.r_[np.full(len(X), -1), np.zeros(len(Xv), int)])
    all_rows = np.concatenate([X, Xv]), np.concatenate([y, yv])

    def ours() -> Any:
        heads = softmax_path(X, y, l2s, class_weight=None)
        return heads, [head.score(Xv, yv) for head in heads]

    def theirs(tol: float) -> Any:
        model = LogisticRegression(max_iter=1_000_000, tol=tol)
        search = GridSearchCV(model, {"C": Cs.tolist()}, cv=split, n_jobs=1 if args.cpu else 2, refit=False)
        return search.fit(*all_rows).cv_results_["mean_test_score"].tolist()

    runners: dict[str, Callable[[], Any]] = {"ours": ours}
    for tol in args.tol:
        runners[f"GridSearchCV tol={tol:g}"] = lambda tol=tol: theirs(tol)
    found = in_turn(runners, args.rounds, time.process_time if args.cpu else time.perf_counter)
    heads, scores = found["ours"][1]
    fitted = {f"GridSearchCV tol={tol:g}": [_lone(C, tol, X, y) for C in Cs] for tol in args.tol} | {"ours": heads}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted["exact"] = softmax_path(X, y, l2s, class_weight=None, tol=1e-10, max_iter=10_000)
    values = {name: np.array([objective(m, X, y, l2) for m, l2 in zip(models, l2s, strict=True)])
              for name, models in fitted.items()}  # fmt: skip
    least = np.min(list(values.values()), axis=0)
    print(f"\n{X.shape[0]:,} x {X.shape[1]}, {classes} classes, 45 values of C from 1e-6 to 1e5")
    print("| who | seconds | iterations | worst above the optimum | best C | theirs / ours |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (seconds, result) in found.items():
        mine = scores if name == "ours" else result
        above, steps = (values[name] / least - 1).max(), sum(int(np.max(m.n_iter_)) for m in fitted[name])
        ratio = ratios(seconds, found["ours"][0])
        print(f"| {name} | {spread(seconds)} | {steps} | {above:.1e} | {Cs[int(np.argmax(mine))]:.3g} "
              f"({max(mine):.4f}) | {ratio} |")  # fmt: skip


def _lone(C: float, tol: float, X: NDArray[np.float32], y: NDArray[np.int64]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=C, tol=tol, max_iter=1_000_000).fit(X, y)


def memory(args: argparse.Namespace) -> None:
    """Each in a process of its own, whose anonymous memory is read 100 times a second."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "x.npy"
        mapped = np.lib.format.open_memmap(path, "w+", np.float32, (args.rows, args.dim))
        codes = np.empty(args.rows, np.int64)
        for i in range(0, args.rows, 100_000):
            mapped[i : i + 100_000], codes[i : i + 100_000] = made_rows(
                min(100_000, args.rows - i), args.dim, args.classes
            )
        mapped.flush()
        np.save(Path(folder) / "y.npy", codes)
        del mapped
        for who in ("ours", "dense", "scikit-learn") if args.peer else ("ours", "dense"):
            done = subprocess.run(
                [sys.executable, __file__, "one-memory", "--who", who, "--folder", folder, "--l2", str(args.l2[0])],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
            print(f"{args.rows:,} x {args.dim}, {args.classes} classes, {who}: {json.loads(done.stdout)}")


def one_memory(args: argparse.Namespace) -> None:
    X, y = np.load(args.folder / "x.npy", mmap_mode="r"), np.load(args.folder / "y.npy")
    l2, classes, peak, done = args.l2[0], int(y.max()) + 1, {"RssAnon": 0, "VmRSS": 0}, threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            for line in Path("/proc/self/status").read_text().splitlines():
                name = line.split(":")[0]
                if name in peak:
                    peak[name] = max(peak[name], int(line.split()[1]) // 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    if args.who == "ours":
        model: Any = SoftmaxHead(l2=l2).fit(X, y)
    elif args.who == "dense":
        model = DenseHead(epochs=1).fit(X, y)
    else:
        model = LogisticRegression(C=inverse_strength(l2, len(X), classes), class_weight="balanced", max_iter=20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, y)
    seconds = time.perf_counter() - begun
    done.set()
    watcher.join()
    print(
        json.dumps(
            {"peak MiB": peak, "seconds": round(seconds, 1), "iterations": int(np.max(getattr(model, "n_iter_", 0)))}
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["fit", "sweep", "memory", "one-memory"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--dim", type=int)
    parser.add_argument("--classes", type=int)
    parser.add_argument("--l2", type=float, nargs="+", default=[1e-5])
    parser.add_argument("--tol", type=float, nargs="*", default=[1e-4, 1e-5])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="CPU seconds, for fit and sweep on a busy machine")
    parser.add_argument("--run", type=Path, help="a run folder that `frozenhead embed` made, for sweep")
    parser.add_argument("--cache-dir", type=Path)
    parser.add_argument("--folder", type=Path, help="where the memory map is written")
    parser.add_argument("--peer", action="store_true", help="memory of scikit-learn's too, 20 iterations")
    parser.add_argument("--who", default="ours")
    args = parser.parse_args()
    shapes = {"fit": (100_000, 768, 20), "sweep": (3_900, 384, 2), "memory": (1_000_000, 384, 2)}
    for name, value in zip(("rows", "dim", "classes"), shapes.get(args.part, (0, 0, 0)), strict=True):
        setattr(args, name, getattr(args, name) or value)
    {"fit": one_fit, "sweep": sweep, "memory": memory, "one-memory": one_memory}[args.part](args)


if __name__ == "__main__":
    main()
