"""Tiny random checkpoints of the architectures that people use, each with a tokenizer of its own special tokens."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.conftest import WORDS

LAYERS, HEADS, POSITIONS = 5, 4, 24

BERT_WORDS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
DEBERTA_WORDS = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
ROBERTA_WORDS = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}  # pad is 1

SHAPE = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 48}
DISENTANGLED = {**SHAPE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0}


class Architecture(NamedTuple):
    """How to build one: transformers' config class and its fields, special tokens in the order of their ids."""

    config: str
    fields: dict[str, Any]
    special: dict[str, str] = BERT_WORDS
    offset: int = 0
    """Positions that are never used."""
    pooler: bool = True
    fused: bool = True


ARCHITECTURES = {
    "bert": Architecture("BertConfig", SHAPE),
    "minilm": Architecture("BertConfig", {**SHAPE, "hidden_size": 48, "num_attention_heads": 12}),
    "distilbert": Architecture(
        "DistilBertConfig",
        {"dim": 32, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": 48},
        pooler=False,
        fused=False,
    ),
    "roberta": Architecture("RobertaConfig", {**SHAPE, "type_vocab_size": 1}, ROBERTA_WORDS, 2),
    "xlm-roberta": Architecture("XLMRobertaConfig", {**SHAPE, "type_vocab_size": 1}, ROBERTA_WORDS, 2),
    "camembert": Architecture("CamembertConfig", {**SHAPE, "type_vocab_size": 1}, ROBERTA_WORDS, 2),
    "mpnet": Architecture("MPNetConfig", SHAPE, ROBERTA_WORDS, 2, fused=False),
    "electra": Architecture("ElectraConfig", {**SHAPE, "embedding_size": 16}, pooler=False),
    "deberta": Architecture("DebertaConfig", DISENTANGLED, DEBERTA_WORDS, pooler=False, fused=False),
    "deberta-v2": Architecture(
        "DebertaV2Config", {**DISENTANGLED, "conv_kernel_size": 3}, DEBERTA_WORDS, pooler=False, fused=False
    ),
    "deberta-v3": Architecture(
        "DebertaV2Config",
        {
            **DISENTANGLED, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True,
            "position_biased_input": False,
        },
        DEBERTA_WORDS, pooler=False, fused=False,
    ),
    "modernbert": Architecture(
        "ModernBertConfig", {**SHAPE, "local_attention": 8, "global_attn_every_n_layers": 2}, pooler=False, fused=False
    ),
    "albert": Architecture("AlbertConfig", {**SHAPE, "embedding_size": 16}, fused=False),
}  # fmt: skip


def save_tokenizer(folder: Path, special: dict[str, str], *, model_max_length: int | None = None) -> dict[str, int]:
    """A WordPiece tokenizer with these special tokens first; returns its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    tokens = [*special.values(), *WORDS, *letters, *(f"##{x}" for x in letters)]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    cls, sep = special["cls_token"], special["sep_token"]
    backend = Tokenizer(models.WordPiece(vocab, unk_token=special["unk_token"]))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", special_tokens=[(cls, vocab[cls]), (sep, vocab[sep])]
    )
    limit = {} if model_max_length is None else {"model_max_length": model_max_length}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special, **limit).save_pretrained(folder)
    return vocab


def make(folder: Path, kind: str, *, seed: int = 0, **changes: Any) -> Path:
    """Save a random checkpoint whose longest text has `POSITIONS` tokens by its positions alone."""
    import torch
    import transformers

    architecture = ARCHITECTURES[kind]
    folder.mkdir(parents=True)
    vocab = save_tokenizer(folder, architecture.special)
    config = getattr(transformers, architecture.config)(**{
        "vocab_size": len(vocab), "max_position_embeddings": POSITIONS + architecture.offset, "initializer_range": 0.2,
        "pad_token_id": vocab[architecture.special["pad_token"]], **architecture.fields, **changes,
    })  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModel.from_config(config)
        for name, parameter in model.named_parameters():
            if "bias" in name:  # random too: zeros hide mistakes
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return folder


def alone(folder: Path, texts: Sequence[str], pooling: str, *, max_length: int, layer: int = -1) -> NDArray[np.float32]:
    """Vectors (N, D) of a plain transformers forward of each text alone, pooled by the pooling's definition."""
    return np.stack([_pooled(states, pooling, layer) for states in _states(folder, tuple(texts), max_length)])


class _States(NamedTuple):
    """Of one text: states (T, D) of the embeddings, of layer 1, ...; and `pooler_output` (D,)."""

    layers: list[NDArray[np.float32]]
    pooler: Any


@functools.cache
def _states(folder: Path, texts: tuple[str, ...], max_length: int) -> list[_States]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    every = []
    for text in texts:
        ids = torch.tensor([tokenizer(text, truncation=True, max_length=max_length)["input_ids"]])
        with torch.no_grad():
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
        every.append(_States([h[0].numpy() for h in output.hidden_states], getattr(output, "pooler_output", None)))
    return every


def _pooled(states: _States, pooling: str, layer: int) -> NDArray[np.float32]:
    hidden = states.layers[layer]
    if pooling == "pooler":
        return np.asarray(states.pooler[0])
    if pooling == "last4":
        return np.concatenate([states.layers[-k][0] for k in (4, 3, 2, 1)])
    return np.asarray({"cls": hidden[0], "mean": hidden.mean(axis=0), "max": hidden.max(axis=0)}[pooling])
