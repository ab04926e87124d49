"""Heads: stacks against one head after the other, and both against the training loop of the reference's notebook.

    python benchmarks/heads.py [--rounds 5] [--epochs 2] [--hidden 512] [--json FILE]
    python benchmarks/heads.py --all spam.csv FOLDER        and what else is claimed of the speed of heads, in one run

Runs take turns (A B C A B C ...); figures are medians of the rounds, with their range; ratios are those within a round.
The processor's seconds stand beside the clock's: on a busy machine only they can be compared. Vectors are random, as
many and as long as those of the reference's spam run with a small encoder: 3,900 x 384 for training, 836 for
validation, two classes. Steps cost the same whatever the numbers are. "Floor" is the least that a step can cost.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rounds import circumstances, say

from frozenhead.heads import TrainingSettings
from frozenhead.heads.learner import Task
from frozenhead.heads.many import train_heads
from frozenhead.heads.weighting import class_weights

HEADS, ROWS, HELD, DIM, CLASSES = 32, 3900, 836, 384, 2
FLOOR_STEPS = 400


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on the calling thread alone; the number it had comes back at the end."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Data:
    """Random vectors around two centres, with the spam file's share of the second class."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.codes = (rng.random(ROWS + HELD) < 0.134).astype(np.int64)
        centres = rng.normal(size=(CLASSES, DIM)) * 0.1
        self.X = (centres[self.codes] + rng.normal(size=(ROWS + HELD, DIM))).astype(np.float32)
        self.train = self.X[:ROWS], self.codes[:ROWS]
        self.held = self.X[ROWS:], self.codes[ROWS:]
        self.weights = class_weights("balanced", np.arange(CLASSES), self.train[1])


def ours(data: Data, tasks: list[Task], **options: Any) -> None:
    """`train_heads`; a head that fails would be no comparison."""
    outcomes = list(train_heads(*data.train, tasks, n_classes=CLASSES, validation=data.held, **options))
    if len(outcomes) != len(tasks) or any(outcome.error for outcome in outcomes):
        raise RuntimeError("A head was not trained.")


def notebook(data: Data, hidden: int, epochs: int) -> None:
    """The notebook's loop, in plain PyTorch with as many threads as it takes by itself."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, TensorDataset

    train = TensorDataset(*map(torch.from_numpy, data.train))
    held = TensorDataset(*map(torch.from_numpy, data.held))
    loader = DataLoader(train, sampler=RandomSampler(train), batch_size=32)
    held_loader = DataLoader(held, sampler=SequentialSampler(held), batch_size=32)
    layers = nn.Linear(DIM, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, CLASSES), nn.LogSoftmax(dim=1)
    model = nn.Sequential(*layers)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-6, weight_decay=0.0)
    loss_of = nn.NLLLoss(weight=torch.tensor(data.weights, dtype=torch.float32))
    lowest, best = np.inf, None
    for _ in range(epochs):
        model.train()
        total = 0.0
        for vectors, codes in loader:
            model.zero_grad()
            loss = loss_of(model(vectors), codes)
            total += loss.item()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        model.eval()
        with torch.no_grad():
            held_loss = float(np.mean([loss_of(model(vectors), codes).item() for vectors, codes in held_loader]))
        if held_loss < lowest:
            lowest, best = held_loss, {k: v.clone() for k, v in model.state_dict().items()}
    if best is None:
        raise RuntimeError("The loop diverged.")


def floor(hidden: int) -> None:
    """What no loop can do without, `FLOOR_STEPS` times on one core: both products of the first layer, |g|, AdamW."""
    import torch

    with one_thread(), torch.inference_mode():
        x, back, numbers = torch.randn(32, DIM), torch.randn(32, hidden), DIM * hidden
        W, gradient, means, squares = torch.randn(4, numbers).abs().unbind()
        count, out = torch.ones(()), torch.empty(32, hidden)
        for _ in range(FLOOR_STEPS):
            torch.mm(x, W.view(DIM, hidden), out=out)
            torch.mm(x.T, back, out=gradient.view(DIM, hidden))
            torch.dot(gradient, gradient)
            torch._fused_adamw_(
                [W], [gradient], [means], [squares], [], [count], amsgrad=False, maximize=False, lr=1e-3, beta1=0.9,
                beta2=0.999, weight_decay=0.0, eps=1e-6,
            )  # fmt: skip


Seconds = dict[str, list[tuple[float, float]]]
"""Of each runner and round: seconds on the clock, and seconds of the processor."""


def measured(runners: dict[str, Callable[[], None]], rounds: int) -> Seconds:
    """Each runner in each round, in turn, after one round that does not count."""
    seconds: Seconds = {name: [] for name in runners}
    for number in range(rounds + 1):
        for name, run in runners.items():
            begun = time.perf_counter(), time.process_time()
            run()
            took = time.perf_counter() - begun[0], time.process_time() - begun[1]
            if number:
                seconds[name].append(took)
                say(f"round {number}/{rounds}  {name}: {took[0]:.2f} s, {took[1]:.2f} s of the processor")
    return seconds


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def compare(data: Data, hidden: int, epochs: int, rounds: int, sample: int) -> dict[str, Any]:
    """The rows of one width of the hidden layer; `sample` heads are trained one by one; all figures are per head."""
    settings = [TrainingSettings(hidden=hidden, epochs=epochs, seed=i) for i in range(HEADS)]
    tasks = [Task(settings=each, class_weights=data.weights) for each in settings]

    def one_by_one() -> None:
        for task in tasks[:sample]:
            ours(data, [task])

    def notebook_alone() -> None:
        with one_thread():
            notebook(data, hidden, epochs)

    runners: dict[str, Callable[[], None]] = {
        "stacked": lambda: ours(data, tasks),
        "one by one": one_by_one,
        "notebook": lambda: notebook(data, hidden, epochs),
        "notebook, one thread": notebook_alone,
        "floor": lambda: floor(hidden),
    }
    steps = epochs * -(-ROWS // 32)
    divisors = dict(zip(runners, (HEADS * steps, sample * steps, steps, steps, FLOOR_STEPS), strict=True))
    each = {
        name: [(clock / divisors[name] * 1e6, cpu / divisors[name] * 1e6) for clock, cpu in values]
        for name, values in measured(runners, rounds).items()
    }
    pairs = [("one by one", "stacked"), ("notebook", "stacked"), ("notebook", "one by one")]
    pairs += [("notebook, one thread", "stacked"), ("notebook, one thread", "one by one"), ("one by one", "floor")]
    return {
        "hidden": hidden,
        "epochs": epochs,
        "microseconds_a_step_of_one_head": {
            name: {what: spread([pair[i] for pair in values]) for i, what in enumerate(("clock", "processor"))}
            for name, values in each.items()
        },
        "times_as_fast": {
            f"{slow} / {fast}": {
                what: spread([a[i] / b[i] for a, b in zip(each[slow], each[fast], strict=True)])
                for i, what in enumerate(("clock", "processor"))
            }
            for slow, fast in pairs
        },
    }


def table(row: dict[str, Any]) -> str:
    """The row's figures as two tables in Markdown."""

    def shown(found: dict[str, float], digits: int) -> str:
        return f"{found['median']:.{digits}f} ({found['least']:.{digits}f} to {found['most']:.{digits}f})"

    parts = []
    for title, key, digits in (
        ("us a step of one head", "microseconds_a_step_of_one_head", 0),
        ("times as fast", "times_as_fast", 2),
    ):
        lines = [f"| {row['hidden']} units: {title} | clock | processor |", "| --- | --- | --- |"]
        for name, found in row[key].items():
            lines.append(f"| {name} | {shown(found['clock'], digits)} | {shown(found['processor'], digits)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--hidden", type=int, nargs="+", default=[512])
    parser.add_argument("--sample", type=int, default=4, help="heads trained one by one")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--all", nargs=2, type=Path, metavar=("TABLE", "FOLDER"), help="softmax.py and end_to_end.py too"
    )
    chosen = parser.parse_args()
    facts = circumstances()
    data = Data()
    rows = [compare(data, hidden, chosen.epochs, chosen.rounds, chosen.sample) for hidden in chosen.hidden]
    result = {"circumstances": facts, "rows": rows}
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(table(row), end="\n\n", flush=True)
    if chosen.all:
        the_others(*chosen.all)


def the_others(data: Path, folder: Path) -> None:
    """The speed of softmax, the memory of heads and `fit` beside the reference's training, one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    for line in (
        ["softmax.py", "fit"],
        ["softmax.py", "sweep", "--tol", "1e-4", "1e-8"],
        ["softmax.py", "memory", "--folder", str(folder)],
        ["end_to_end.py", str(data), "--work", str(folder)],
    ):
        say(" ".join(line))
        subprocess.run([sys.executable, Path(__file__).with_name(line[0]), *line[1:]], check=True)


if __name__ == "__main__":
    main()
