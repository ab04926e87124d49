"""How token states become one vector.

`cls` and `pooler` are different numbers: `cls` is `last_hidden_state[:, 0]`, the last state of [CLS];
`pooler` is `pooler_output`, BERT's trained tanh layer over that state (Devlin et al. 2019). `last4` is the [CLS] states
of the last four layers one after the other, the fourth-last layer's first: the best of the feature-based vectors in
table 7 of that paper, there for every token.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Literal["pooler", "cls", "mean", "max", "last4"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
LAST_LAYERS = 4  # that last4 joins


def pool(
    pooling: Pooling, states: "Sequence[Tensor]", mask: "Tensor | None", pooler_output: "Tensor | None"
) -> "Tensor":
    """One vector per text.

    Parameters
    ----------
    pooling : {"pooler", "cls", "mean", "max", "last4"}
    states : sequence of float tensors (B, T, D)
        Token states of layers, the layer that is pooled last; `last4` takes four of them.
    mask : integer tensor (B, T) or None
        1 at real tokens, [CLS] and [SEP] among them; 0 at padding. None: every token is real.
    pooler_output : float tensor (B, D) or None

    Returns
    -------
    float tensor (B, D), of `last4` (B, 4D)
    """
    hidden = states[-1]  # (B, T, D)
    if pooling == "pooler":
        if pooler_output is None:
            raise ValueError("This encoder gives no pooler_output.")
        return pooler_output
    if pooling == "cls":
        return hidden[:, 0]  # (B, D)  token 0 is [CLS]
    if pooling == "last4":
        import torch

        return torch.cat([layer[:, 0] for layer in states[-LAST_LAYERS:]], dim=-1)  # (B, 4D)
    if mask is None:
        return hidden.mean(dim=1) if pooling == "mean" else hidden.amax(dim=1)  # (B, D)
    real = mask.unsqueeze(-1).bool()  # (B, T, 1)
    if pooling == "mean":
        total = hidden.masked_fill(~real, 0.0).sum(dim=1)  # (B, D)
        return total / real.sum(dim=1).to(hidden.dtype)
    if pooling == "max":
        return hidden.masked_fill(~real, float("-inf")).amax(dim=1)  # (B, D)
    raise ValueError(f"Pooling {pooling!r} is none of {', '.join(POOLINGS)}.")
