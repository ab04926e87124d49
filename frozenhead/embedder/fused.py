"""BERT's forward pass with fewer, larger products: Q, K and V in one, and the last layer for [CLS] alone.

The weights are those of a transformers model; the pass is proven equal to transformers' own before it is used.
Vaswani et al. (2017) for attention, Devlin et al. (2019) for the layer's order.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor, nn

# Architectures whose layers have BERT's shape and names, and whose embeddings need nothing but ids.
_SHAPES = {"bert", "roberta", "xlm-roberta", "camembert", "electra"}


class States(NamedTuple):
    """Token states of the layers that are pooled, (B, T, D) each, and `pooler_output` (B, D)."""

    layers: tuple[Tensor, ...]
    pooler_output: Tensor | None


class FusedBert(nn.Module):
    """A BERT-shaped encoder.

    Parameters
    ----------
    model : transformers model of one of the shapes above
    layer : int
        Compute up to this layer: -1 is the last.
    kept : int
        Layers whose states are returned, `layer` and those just below it.
    cls_only : bool
        Compute the last of them for [CLS] alone: exact, and 14 % less arithmetic with 6 layers, 7 % with 12.
        Its states are then (B, 1, D).
    """

    def __init__(self, model: Any, *, layer: int, kept: int, cls_only: bool) -> None:
        super().__init__()
        self.embeddings = model.embeddings
        self.projection = getattr(model, "embeddings_project", None)  # ELECTRA's
        self.kept = kept
        layers = list(model.encoder.layer)
        layers = layers[: len(layers) + 1 + layer]
        self.layers = nn.ModuleList(
            _Layer(layer, heads=model.config.num_attention_heads, cls_only=cls_only and layer is layers[-1])
            for layer in layers
        )
        self.pooler = getattr(model, "pooler", None) if layer == -1 else None

    @classmethod
    def of(cls, model: Any, *, layer: int = -1, kept: int = 1, cls_only: bool = False) -> "FusedBert | None":
        """The model fused, or None if it is of another shape."""
        config = model.config
        plain = not getattr(config, "is_decoder", False) and not getattr(config, "add_cross_attention", False)
        absolute = getattr(config, "position_embedding_type", "absolute") in (None, "absolute")
        if config.model_type not in _SHAPES or not plain or not absolute:
            return None
        return cls(model, layer=layer, kept=kept, cls_only=cls_only)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> States:
        """States of ids (B, T). Without a mask every token is real."""
        hidden = self.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)  # (B, T, D)
        if self.projection is not None:
            hidden = self.projection(hidden)
        bias = None
        if attention_mask is not None:
            # Finite, so that no row is without a key; far below any score, so that padding weighs exactly 0.
            bias = (1.0 - attention_mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
        states = [hidden]
        for layer in self.layers:
            hidden = layer(hidden, bias)
            states = [*states, hidden][-self.kept :]
        return States(tuple(states), None if self.pooler is None else self.pooler(hidden))


class _Layer(nn.Module):
    """One layer: attention, then the feed-forward net, each with its residual and norm."""

    def __init__(self, layer: Any, *, heads: int, cls_only: bool) -> None:
        super().__init__()
        attention = layer.attention.self
        self.heads, self.cls_only = heads, cls_only
        self.query = attention.query if cls_only else None
        parts = (attention.key, attention.value) if cls_only else (attention.query, attention.key, attention.value)
        self.joined = _stack(parts)
        self.output = layer.attention.output.dense
        self.attention_norm = layer.attention.output.LayerNorm
        self.up = layer.intermediate.dense
        self.activation = layer.intermediate.intermediate_act_fn
        self.down = layer.output.dense
        self.norm = layer.output.LayerNorm

    def forward(self, hidden: Tensor, bias: Tensor | None) -> Tensor:
        joined = self.joined(hidden)  # (B, T, 3D) or (B, T, 2D)
        if self.query is not None:
            hidden = hidden[:, :1]  # (B, 1, D)  token 0 is [CLS]
            query = self.query(hidden)
            key, value = joined.chunk(2, dim=-1)
        else:
            query, key, value = joined.chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(
            self._split(query), self._split(key), self._split(value), attn_mask=bias
        )  # (B, heads, T, D / heads)
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, T, D)
        hidden = self.attention_norm(self.output(mixed) + hidden)
        result: Tensor = self.norm(self.down(self.activation(self.up(hidden))) + hidden)
        return result

    def _split(self, states: Tensor) -> Tensor:
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)  # (B, heads, T, D / heads)


def _stack(parts: tuple[Any, ...]) -> nn.Linear:
    """Linear maps of one input as one: the outputs stand beside each other."""
    stacked = nn.Linear(parts[0].in_features, sum(part.out_features for part in parts), device="meta")
    stacked.weight = nn.Parameter(torch.cat([part.weight for part in parts]), requires_grad=False)
    stacked.bias = nn.Parameter(torch.cat([part.bias for part in parts]), requires_grad=False)
    return stacked
