"""Token rows: what is cut and what is laid out, for tokenizers of several kinds."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frozenhead.embedder.tokens import count_tokens, text_parts, tokenize
from frozenhead.errors import EncoderUnfit
from tests.conftest import WORDS

UNKNOWN = "☃ ☃☃ ☃ ☃ ☃ ☃ ☃"  # no piece of it is in the vocabulary
CONTROL = "the\x07cat \x1b[31m sat\x9f on\u200b the\ufeff mat \x01"


def bert(side: str = "right") -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, truncation_side=side, **special)


def roberta() -> Any:
    """Byte-level pairs, </s> and <s>, no token types."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate(["<s>", "</s>", "<pad>", *letters, "th", "at"])}
    backend = Tokenizer(models.BPE(vocab, [("t", "h"), ("a", "t")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), add_prefix_space=False)
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_input_names=names
    )


def xlnet() -> Any:
    """Special tokens at the end, the last of another type."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["<pad>", "<unk>", "<cls>", "<sep>", *WORDS])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="$A:0 <sep>:0 <cls>:2", special_tokens=[("<sep>", 3), ("<cls>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>")


def slow() -> Any:
    """Written in Python: each character is a token."""
    from transformers import CanineTokenizer

    return CanineTokenizer()


KINDS: dict[str, Callable[[], Any]] = {
    "bert": bert, "left": lambda: bert("left"), "roberta": roberta, "xlnet": xlnet, "slow": slow,
}  # fmt: skip
FAST = [kind for kind in KINDS if kind != "slow"]


@cache
def tokenizer_of(kind: str) -> Any:
    return KINDS[kind]()


some_texts = st.lists(
    st.lists(st.sampled_from([*WORDS, "☃", "[SEP]", "</s>"]), min_size=0, max_size=60).map(" ".join),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("kind", KINDS)
@given(texts=some_texts, max_length=st.integers(8, 40))
@settings(max_examples=30, deadline=None)
def test_a_cut_text_is_what_the_tokenizer_cuts_and_all_its_tokens_are_counted(
    kind: str, texts: list[str], max_length: int
) -> None:
    tokenizer = tokenizer_of(kind)
    tokens = tokenize(tokenizer, texts, max_length=max_length)
    for i, text in enumerate(texts):
        assert tokens.rows[i] == dict(tokenizer(text, truncation=True, max_length=max_length))
        assert tokens.counts[i] == len(tokenizer(text, verbose=False)["input_ids"])
    assert tokens.texts.tolist() == list(range(len(texts)))
    assert tokens.lengths.tolist() == [len(row["input_ids"]) for row in tokens.rows]
    assert count_tokens(tokenizer, texts).tolist() == tokens.counts.tolist()


@pytest.mark.parametrize("kind", FAST)
@given(texts=some_texts, max_length=st.integers(8, 40))
@settings(max_examples=30, deadline=None)
def test_windows_hold_every_token_and_share_a_quarter(kind: str, texts: list[str], max_length: int) -> None:
    tokenizer = tokenizer_of(kind)
    tokens = tokenize(tokenizer, texts, max_length=max_length, long="windows")
    room = max_length - 2
    lead = 0 if kind == "xlnet" else 1  # special tokens before the content
    for i, text in enumerate(texts):
        content = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        rows = [tokens.rows[m] for m in np.flatnonzero(tokens.texts == i)]
        parts = [row["input_ids"][lead : len(row["input_ids"]) - 2 + lead] for row in rows]
        assert [len(part) for part in parts] == tokens.content[tokens.texts == i].tolist()
        assert tokens.counts[i] == len(content) + 2
        if kind == "left":  # from the end: mirrored
            content, parts = content[::-1], [part[::-1] for part in parts]
        joined = list(parts[0])
        for before, part in pairwise(parts):
            assert len(before) == room
            shared = room // 4
            assert before[len(before) - shared :] == part[:shared]
            assert len(part) > shared  # each brings new tokens
            joined += part[shared:]
        assert joined == content
        assert max(map(len, parts)) <= room


@pytest.mark.parametrize("kind", FAST)
def test_every_window_is_a_complete_input(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    lead = 0 if kind == "xlnet" else 1
    short = tokenizer("the", add_special_tokens=True)
    n = len(short["input_ids"]) - 2  # content tokens of it
    for row in tokenize(tokenizer, ["the cat sat on the mat " * 9], max_length=9, long="windows").rows:
        assert row.keys() == short.keys()
        for name, ids in row.items():
            assert len(ids) == len(row["input_ids"])
            assert (ids[:lead], ids[len(ids) - 2 + lead :]) == (short[name][:lead], short[name][lead + n :])


def test_a_tokenizer_of_the_slow_kind_has_no_windows() -> None:
    with pytest.raises(EncoderUnfit, match="--long windows"):
        tokenize(tokenizer_of("slow"), ["the cat"], max_length=8, long="windows")


@pytest.mark.parametrize("text", [UNKNOWN, CONTROL, "\x07", "a" * 5000])
@pytest.mark.parametrize("kind", KINDS)
def test_strange_texts_are_rows_like_others(kind: str, text: str) -> None:
    tokens = tokenize(tokenizer_of(kind), ["the cat", text, "the dog"], max_length=8)
    alone = [tokenize(tokenizer_of(kind), [t], max_length=8).rows[0] for t in ("the cat", text, "the dog")]
    assert tokens.rows == alone


def test_no_texts_give_no_rows() -> None:
    tokens = tokenize(tokenizer_of("bert"), [], max_length=8, long="windows")
    assert (tokens.rows, len(tokens.texts), len(tokens.counts), len(tokens.content)) == ([], 0, 0, 0)


@given(sizes=st.lists(st.integers(0, 9), max_size=30), most=st.integers(1, 7), characters=st.integers(1, 20))
def test_parts_hold_every_text_once_in_order_and_keep_their_bounds(
    sizes: list[int], most: int, characters: int
) -> None:
    texts = [chr(97 + i % 26) * n for i, n in enumerate(sizes)]
    parts = [texts[part] for part in text_parts(texts, most=most, characters=characters)]
    assert [text for part in parts for text in part] == texts
    for part in parts:
        assert 0 < len(part) <= most
        assert len(part) == 1 or sum(map(len, part)) <= characters
    for part, after in pairwise(parts):  # and none ends early
        assert len(part) == most or sum(map(len, part)) + len(after[0]) > characters


def test_a_long_text_of_many_windows_is_laid_out_whole(tmp_path: Path) -> None:
    words = [WORDS[i * i % len(WORDS)] for i in range(30_000)]
    tokens = tokenize(tokenizer_of("bert"), ["the cat", " ".join(words)], max_length=64, long="windows")
    assert tokens.counts.tolist() == [4, 30_002]
    assert len(tokens.rows) == 1 + 1 + -(-(30_000 - 62) // 47)
