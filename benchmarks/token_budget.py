"""How many tokens should a batch hold? Texts per second of one encoder under several budgets, in turn.

    python benchmarks/token_budget.py TEXTS.csv [COLUMN] [--rounds 3]

Embeds the first 1,500 rows into a fresh cache for each budget and length; prints medians and ranges.
"""

import statistics
import sys
import tempfile

from frozenhead.cache import VectorCache
from frozenhead.corpus import column_values, find_columns, read_table
from frozenhead.embedder import EmbedSettings, embed_texts, find_checkpoint
from frozenhead.embedder import encoder as encoder_module

BUDGETS = (512, 1024, 2048, 4096, 8192)
LENGTHS = (25, 128)
ROWS = 1500


def texts_per_second(encoder: encoder_module.Encoder, texts: list[str], *, max_length: int, budget: int) -> float:
    encoder_module.CPU_TOKEN_BUDGET = budget
    settings = EmbedSettings(max_length=max_length, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        done = embed_texts(
            encoder.checkpoint, texts, settings=settings, cache=VectorCache(folder), encoder=lambda: encoder
        )
    return done.computed / done.seconds


def main() -> None:
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    rounds = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 3
    table = read_table(words[0])
    column = find_columns(table, text=words[1] if len(words) > 1 else None, label=None, labelled=False).text
    texts = column_values(table, column, what="text")[:ROWS]
    encoder = encoder_module.Encoder(find_checkpoint("minilm"), device="cpu")
    rates: dict[tuple[int, int], list[float]] = {(n, b): [] for n in LENGTHS for b in BUDGETS}
    for _ in range(rounds):
        for (max_length, budget), seen in rates.items():
            seen.append(texts_per_second(encoder, texts, max_length=max_length, budget=budget))
    for (max_length, budget), seen in rates.items():
        spread = f"{min(seen):.0f} to {max(seen):.0f}"
        print(f"length {max_length:4d}  budget {budget:5d}  {statistics.median(seen):6.0f} texts/s  ({spread})")


if __name__ == "__main__":
    main()
