"""`fit` on cached vectors beside the notebook's own training, which runs BERT over every text in every epoch.

    python benchmarks/end_to_end.py spamdata_v2.csv --work FOLDER [--steps 24] [--rounds 5]

The encoder is a random checkpoint of bert-base's size (12 layers of 768), texts are cut at 25 tokens, batches hold 32.
The notebook's ten epochs would take most of an hour here: some steps are measured, and scaled to the 122 training
and 27 validation batches of each epoch. Of `fit` the whole command is timed, start of the process included. Its vectors
come from `embed`, which ran once before and whose time stands beside. Runs take turns.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rounds import circumstances, say

from frozenhead.embedder import find_checkpoint
from frozenhead.runs import Run

EPOCHS, BATCH, LENGTH = 10, 32, 25
COMMAND = [sys.executable, "-c", "from frozenhead.cli import main; main()"]


def make_checkpoint(folder: Path) -> None:
    """A random BERT of bert-base's size with MiniLM's tokenizer, whose vocabulary is bert-base-uncased's."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        source = find_checkpoint("minilm").folder / name
        if source.exists():
            shutil.copy(source, folder / name)


class Notebook:
    """The notebook's model and loop: frozen BERT in training mode, its head, and its optimiser."""

    def __init__(self, checkpoint: Path, corpus: pd.DataFrame) -> None:
        import torch
        from torch import nn
        from transformers import AutoTokenizer, BertModel

        self.bert = BertModel.from_pretrained(checkpoint, dtype=torch.float32)
        for parameter in self.bert.parameters():
            parameter.requires_grad = False
        layers = nn.Linear(768, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 2), nn.LogSoftmax(dim=1)
        self.head = nn.Sequential(*layers)
        self.optimiser = torch.optim.AdamW(self.head.parameters(), lr=1e-3, eps=1e-6, weight_decay=0.0)
        self.loss_of = nn.NLLLoss()
        train = corpus[corpus["split"] == "train"]
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        tokens = tokenizer(
            train["text"].tolist(), max_length=LENGTH, padding="max_length", truncation=True, return_tensors="pt"
        )
        self.ids, self.mask = tokens["input_ids"], tokens["attention_mask"]
        self.codes = torch.from_numpy(np.unique(train["label"].astype(str), return_inverse=True)[1])

    def batch(self, number: int) -> tuple[Any, Any]:
        """Scores and codes of one batch of rows."""
        rows = slice(number * BATCH, (number + 1) * BATCH)
        vectors = self.bert(self.ids[rows], attention_mask=self.mask[rows]).pooler_output
        return self.head(vectors), self.codes[rows]

    def seconds_a_step(self, steps: int, *, training: bool) -> float:
        """Of some batches, each a step of training or one of validation."""
        import torch
        from torch import nn

        for module in (self.bert, self.head):
            module.train(training)
        begun = time.perf_counter()
        for number in range(steps):
            if not training:
                with torch.no_grad():
                    self.loss_of(*self.batch(number)).item()
                continue
            self.head.zero_grad()
            loss = self.loss_of(*self.batch(number))
            loss.item()
            loss.backward()
            nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
            self.optimiser.step()
        return (time.perf_counter() - begun) / steps


def command(words: list[str]) -> float:
    """Seconds of a whole command."""
    begun = time.perf_counter()
    subprocess.run([*COMMAND, *words], check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    checkpoint, run, cache = (given.work / name for name in ("bert-base", "run", "cache"))
    if not (checkpoint / "config.json").exists():
        make_checkpoint(checkpoint)
    embed = [
        "embed", str(given.data), "--recipe", "notebook", "--model", str(checkpoint), "--out", str(run),
        "--cache-dir", str(cache), "--overwrite",
    ]  # fmt: skip
    embedding = command(embed)
    corpus = Run.open(run).corpus()
    counts = corpus["split"].value_counts()
    batches = {split: -(-int(counts[split]) // BATCH) for split in ("train", "val")}
    notebook = Notebook(checkpoint, corpus)
    notebook.seconds_a_step(2, training=True)
    ratios, ours, theirs = [], [], []
    for number in range(given.rounds):
        each = {
            "train": notebook.seconds_a_step(given.steps, training=True),
            "val": notebook.seconds_a_step(max(1, given.steps // 4), training=False),
        }
        theirs.append(EPOCHS * sum(each[split] * batches[split] for split in each))
        ours.append(command(["fit", str(run), "--refit"]))
        ratios.append(theirs[-1] / ours[-1])
        say(f"round {number + 1}/{given.rounds}  fit {ours[-1]:.2f} s, notebook {theirs[-1]:,.0f} s (scaled)")
    facts = circumstances()
    print(f"{facts['date']}, commit {facts['commit']}; embed, once: {embedding:.1f} s\n")
    print("| what | median | range |\n| --- | --- | --- |")
    for what, values in (
        ("fit, whole command, s", ours),
        (f"notebook's ten epochs, scaled from {given.steps} steps, s", theirs),
        ("times as fast", ratios),
    ):
        print(f"| {what} | {statistics.median(values):,.1f} | {min(values):,.1f} to {max(values):,.1f} |")


if __name__ == "__main__":
    main()
