"""How token states become one vector.

`cls` and `pooler` are different numbers: `cls` is `last_hidden_state[:, 0]`, the last state of [CLS];
`pooler` is `pooler_output`, BERT's trained tanh layer over that state (Devlin et al. 2019).
"""

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Pooling = Literal["pooler", "cls", "mean", "max"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def pool(pooling: Pooling, hidden: "Tensor", mask: "Tensor | None", pooler_output: "Tensor | None") -> "Tensor":
    """One vector per text.

    Parameters
    ----------
    pooling : {"pooler", "cls", "mean", "max"}
    hidden : float tensor (B, T, D)
        Last layer's token states.
    mask : integer tensor (B, T) or None
        1 at real tokens, [CLS] and [SEP] among them; 0 at padding. None: every token is real.
    pooler_output : float tensor (B, D) or None

    Returns
    -------
    float tensor (B, D)
    """
    if pooling == "pooler":
        if pooler_output is None:
            raise ValueError("This encoder gives no pooler_output.")
        return pooler_output
    if pooling == "cls":
        return hidden[:, 0]  # (B, D)  token 0 is [CLS]
    if mask is None:
        return hidden.mean(dim=1) if pooling == "mean" else hidden.amax(dim=1)  # (B, D)
    real = mask.unsqueeze(-1).bool()  # (B, T, 1)
    if pooling == "mean":
        total = hidden.masked_fill(~real, 0.0).sum(dim=1)  # (B, D)
        return total / real.sum(dim=1).to(hidden.dtype)
    if pooling == "max":
        return hidden.masked_fill(~real, float("-inf")).amax(dim=1)  # (B, D)
    raise ValueError(f"Pooling {pooling!r} is none of {', '.join(POOLINGS)}.")
