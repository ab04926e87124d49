"""The whole computation of a frozen encoder as one torch module: token ids in, one pooled vector a text out.

Every backend computes this module: torch calls it, others convert it. So they agree on what is computed.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from frozenhead.embedder.fused import FusedBert
from frozenhead.embedder.pooling import Pooling, pool

CLS_POOLINGS = {"pooler", "cls"}


class PooledEncoder(nn.Module):
    """A transformer with its poolings.

    Parameters
    ----------
    model : transformers model
        In eval mode.
    poolings : sequence of Pooling
        One output each.
    """

    def __init__(self, model: Any, poolings: Sequence[Pooling]) -> None:
        super().__init__()
        self.poolings = tuple(poolings)
        cls_only = set(poolings) <= CLS_POOLINGS
        fused = FusedBert.of(model, cls_only=cls_only)
        self.fused = fused is not None
        self.body = fused or model
        self.eval()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Vectors (B, D) of ids (B, T), one for each pooling. Without a mask every token is real."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output = self.body(input_ids=input_ids, attention_mask=attention_mask, **types)
        hidden = output.last_hidden_state  # (B, T, D); of a body that gives [CLS] alone (B, 1, D)
        pooled = getattr(output, "pooler_output", None)  # (B, D)
        return tuple(pool(p, hidden, attention_mask, pooled) for p in self.poolings)
