"""What a checkpoint's config says of its architecture: vector size, layers, longest text, and whether it has a pooler.

Pure functions of the parsed JSON; no torch and no transformers is loaded.
"""

from typing import Any

from frozenhead.errors import EncoderUnfit

SHORTEST = 3  # [CLS], one token, [SEP]

# Models whose first position is padding_idx + 1, so that two positions are never used.
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "data2vec-text"}
# Models that give no pooler_output, even if a classifier's checkpoint brings weights of that name (DeBERTa's do).
_WITHOUT_POOLER = {"distilbert", "electra", "deberta", "deberta-v2", "modernbert"}
# Models that could have relative positions before transformers 5, which computes absolute ones in their place.
_ONCE_RELATIVE = {"bert", "roberta", "xlm-roberta", "camembert", "electra", "albert"}

_FALLBACK_LENGTH = 512
_NO_LIMIT = 10**6  # tokenizers without a limit of their own say 1e30


def can_pool(config: dict[str, Any]) -> bool:
    """Whether the architecture may have a pooler; whether this checkpoint has its weights, the weights tell."""
    return _kind(config) not in _WITHOUT_POOLER


def state_size(config: dict[str, Any], model: str) -> int:
    """D, the size of a token state. Raises `EncoderUnfit` if the config does not say it."""
    for field in ("hidden_size", "dim", "d_model"):  # BERT and most others, DistilBERT, XLNet
        value = config.get(field)
        if isinstance(value, int) and value > 0:
            return value
    raise EncoderUnfit(f"config.json of {model} does not say hidden_size, so it is not a BERT-like encoder.")


def layer_count(config: dict[str, Any]) -> int | None:
    """How many layers stand on the embeddings; None if the config does not say it."""
    for field in ("num_hidden_layers", "n_layers", "n_layer", "num_layers"):  # BERT and most others, DistilBERT, ...
        value = config.get(field)
        if isinstance(value, int) and value > 0:
            return value
    return None


def own_limit(config: dict[str, Any], tokenizer_config: dict[str, Any]) -> int:
    """The longest text in tokens, special tokens included: the shorter of what tokenizer and positions allow."""
    kind = _kind(config)
    positions = config.get("max_position_embeddings")
    if kind in _OFFSET_POSITIONS:
        # 1 is the padding token of them all; MPNet takes it whatever its config says.
        padding = config.get("pad_token_id") if kind != "mpnet" else 1
        first = (padding if isinstance(padding, int) else 1) + 1
        positions = (positions if isinstance(positions, int) else _FALLBACK_LENGTH) - first
    claimed = [positions, tokenizer_config.get("model_max_length")]
    limits = [int(n) for n in claimed if isinstance(n, int | float) and SHORTEST <= n < _NO_LIMIT]
    return min(limits, default=_FALLBACK_LENGTH)


def check_computable(config: dict[str, Any], model: str) -> None:
    """Refuse a config that transformers would load and compute otherwise than it was trained."""
    if config.get("is_encoder_decoder"):
        raise EncoderUnfit(f"{model} is an encoder-decoder; frozenhead needs a BERT-like encoder. Try minilm.")
    positions = config.get("position_embedding_type")
    if _kind(config) in _ONCE_RELATIVE and positions not in (None, "absolute"):
        raise EncoderUnfit(
            f"{model} was trained with {positions} positions, which transformers 5 no longer computes: "
            "its vectors would be those of another model.\nUse a checkpoint with absolute positions."
        )


def _kind(config: dict[str, Any]) -> str:
    return str(config.get("model_type"))
