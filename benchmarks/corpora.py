"""Texts to embed: the SMS file, banking77, a mix of short and long texts, and made-up words for random encoders.

Everything is drawn from seeds, and no text stands twice: none wins by computing a copy once.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frozenhead.corpus import column_values, find_columns, read_table

DATA = Path(os.environ.get("FROZENHEAD_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FILES = {"sms": "spamdata_v2.csv", "banking77": "banking77/train.csv", "long": "spamdata_v2.csv"}
SEED = 2018
LONG_TEXTS = 400
TOKENS_PER_WORD = 1.6  # of the SMS file, with BERT's vocabulary


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Labelled texts (N,) and the length at which every contestant cuts them."""

    name: str
    texts: list[str]
    labels: list[str]
    max_length: int


def read_corpus(name: str, data: Path, *, rows: int) -> Corpus:
    """One of `FILES` in the folder `data`, or of the table that `data` is; `rows` of it, evenly spread; 0 for all."""
    texts, labels = _distinct(data if data.is_file() else data / FILES[name])
    rows = rows or len(texts)
    if name == "long":
        texts, labels = long_mix(texts, labels, min(rows, LONG_TEXTS))
    taken = np.unique(np.linspace(0, len(texts) - 1, min(rows, len(texts))).astype(int))
    return Corpus(
        name=name,
        texts=[texts[i] for i in taken],
        labels=[labels[i] for i in taken],
        max_length=512 if name == "long" else 128,
    )


def _distinct(path: Path) -> tuple[list[str], list[str]]:
    if not path.is_file():
        raise SystemExit(f"There is no {path}: name the folder of the data sets, or a table, with --data.")
    table = read_table(path)
    columns = find_columns(table, text=None, label=None, labelled=True)
    if columns.label is None:
        raise SystemExit(f"{path} has no column of labels.")
    texts = column_values(table, columns.text, what="text")
    labels = column_values(table, columns.label, what="label")
    first = dict(zip(reversed(texts), reversed(labels), strict=True))
    return list(reversed(first)), list(reversed(first.values()))


def long_mix(texts: list[str], labels: list[str], count: int) -> tuple[list[str], list[str]]:
    """`count` texts of about 10 to 600 tokens, half under 90, a tenth over 260: texts of one label, joined and cut."""
    random = np.random.default_rng(SEED)
    words = {label: [t.split() for t, of in zip(texts, labels, strict=True) if of == label] for label in set(labels)}
    joined, kept = {}, []
    while len(joined) < count:
        label = labels[random.integers(len(labels))]
        wanted = int(np.clip(random.lognormal(np.log(90), 0.9), 10, 600) / TOKENS_PER_WORD)
        parts: list[str] = []
        while len(parts) < wanted:
            parts += words[label][random.integers(len(words[label]))]
        text = " ".join(parts[: max(wanted, 4)])
        if text not in joined:
            joined[text] = label
            kept.append(text)
    return kept, [joined[text] for text in kept]


SYLLABLES = [c + v for c in "bcdfghjklmnprstvwxyz" for v in "aeiou"]  # 100


def made_vocabulary(size: int) -> list[str]:
    """WordPiece tokens: special ones, every syllable as a beginning and as a continuation, words of two syllables."""
    words = [a + b for a in SYLLABLES for b in SYLLABLES]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *SYLLABLES, *(f"##{s}" for s in SYLLABLES), *words]
    return tokens[:size]


def made_texts(*, length: int, count: int) -> list[str]:
    """`count` texts of about `length` tokens, [CLS] and [SEP] among them, at most 512: three words in four are in the
    vocabulary, the others are four or five syllables, two to four tokens."""
    random = np.random.default_rng((SEED, length))
    texts = []
    for _ in range(count):
        wanted = int(np.clip(random.normal(length, length / 5), 5, 512)) - 2
        words: list[str] = []
        while wanted > 0:
            extra = min(int(random.integers(2, 4)) * (random.random() < 0.25), wanted - 1)
            words.append("".join(SYLLABLES[i] for i in random.integers(len(SYLLABLES), size=2 + extra)))
            wanted -= 1 + extra
        texts.append(" ".join(words))
    return texts


def token_lengths(folder: Path, texts: list[str], max_length: int) -> list[int]:
    """Tokens of each text after the cut, [CLS] and [SEP] among them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return [len(ids) for ids in tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]]


def make_encoder(folder: Path, *, size: str) -> Path:
    """A random BERT of the size of bert-base (or `tiny`) with the made-up vocabulary, saved into `folder`."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    shape: dict[str, Any] = {"vocab_size": 30522}
    if size == "tiny":
        shape |= {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}
    vocabulary = {token: i for i, token in enumerate(made_vocabulary(shape["vocab_size"]))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, **special)
    torch.manual_seed(SEED)
    BertModel(BertConfig(**shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(words) == len(vocabulary)
    return folder
