"""Dropout that can be repeated: its masks follow from a view and a text, and from nothing else.

torch draws dropout for a whole batch from one stream, so that a text's vector depends on its neighbours. Here a text
has a stream of its own (SFC64, seeded with the sha256 of the view and the text's token ids). Every dropout of the
forward pass takes from it, in their order, a 16-bit number for each of the text's own components: (t, D) of token
states, (heads, t, t) of attention. Those below p 2^16 are dropped and the rest scaled by 1 / (1 - p), as torch does
(Srivastava et al. 2014). So a vector is the same in any batch, padded or not, on any device, and after a restart.

The model is transformers' own in training mode; only the function that drops is replaced while it runs.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from frozenhead.cache.space import View
from frozenhead.errors import EncoderUnfit

_BITS = 16

# A trial of every model: dropout that is seeded gives a text the same vector alone and beside others, to fp32's sums.
_TRIED_LENGTHS = (8, 3, 1)
_TOLERANCE = 1e-5


class SharedDropout(Exception):
    """Dropout over numbers of no single text, as DeBERTa's of positions: each text is to be computed alone."""


class ViewDropout(TorchFunctionMode):
    """While it is entered, `dropout` in this thread takes the masks of a view.

    Parameters
    ----------
    view : View
    ids : int array (B, T)
        Token ids of the batch, padded on the right.
    lengths : int array (B,)
        Real tokens of each text.

    Attributes
    ----------
    sites : int
        Dropouts met so far.
    """

    def __init__(self, view: View, ids: NDArray[np.int64], lengths: NDArray[np.integer]) -> None:
        super().__init__()
        self._padded = ids.shape  # (B, T)
        self._lengths = [int(t) for t in lengths]
        self._streams = [_stream(view, row[:t]) for row, t in zip(ids, self._lengths, strict=True)]
        self.sites = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What torch calls in place of each of its functions."""
        return (self._drop if func is F.dropout else func)(*args, **(kwargs or {}))

    def _drop(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: A002, ARG002 (torch's names)
        if not training or p == 0:
            return input
        if not 0 < p < 1:
            raise EncoderUnfit(f"its config asks for a dropout of {p}, which leaves nothing of a text.")
        self.sites += 1
        kept = torch.from_numpy(self._kept(tuple(input.shape), round(p * 2**_BITS))).to(input.device)
        return (input * kept).mul_(1 / (1 - p))

    def _kept(self, shape: tuple[int, ...], threshold: int) -> NDArray[np.bool_]:
        """Which components stay; at padding, which nothing real reads, all do."""
        batch, longest = self._padded
        if batch == 1 and self._lengths[0] == longest:
            return _draw(self._streams[0], shape, threshold)
        states = len(shape) == 3 and shape[:2] == (batch, longest)
        attention = len(shape) == 4 and (shape[0], *shape[2:]) == (batch, longest, longest)
        if not states and not attention:
            raise SharedDropout(shape)
        kept = np.ones(shape, bool)
        for row, t, stream in zip(kept, self._lengths, self._streams, strict=True):
            own = row[:t] if states else row[:, :t, :t]
            own[...] = _draw(stream, own.shape, threshold)
        return kept


def _stream(view: View, ids: NDArray[np.int64]) -> np.random.SFC64:
    """The numbers of one text in one view. numpy keeps the streams of its bit generators from version to version."""
    digest = hashlib.sha256(f"frozenhead dropout, view {view.index} of seed {view.seed}:".encode())
    digest.update(ids.astype("<i8").tobytes())
    return np.random.SFC64(int.from_bytes(digest.digest(), "little"))


def _draw(stream: np.random.SFC64, shape: Sequence[int], threshold: int) -> NDArray[np.bool_]:
    """The next mask of a text: four numbers from each 64 bits, what is left over of the last is not used."""
    count = math.prod(shape)
    numbers = stream.random_raw(-(-count // 4)).astype("<u8", copy=False).view("<u2")
    return (numbers[:count] >= threshold).reshape(shape)


def switch_on(model: Any) -> None:
    """Training mode of a transformers model, with attention written out: fused kernels draw masks of their own."""
    model.set_attn_implementation("eager")
    model.train()


@contextmanager
def switched_on(model: Any) -> Iterator[None]:
    """The same for a while."""
    kernel = model.config._attn_implementation
    switch_on(model)
    try:
        yield
    finally:
        model.eval()
        model.set_attn_implementation(kernel)


class _NothingRandom(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses whatever torch draws at random."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise EncoderUnfit(
                f"its forward pass draws random numbers that cannot be seeded text by text ({func}), so it has no "
                "dropout views.\nLeave --views out, or take another encoder."
            )
        return func(*args, **(kwargs or {}))


def try_views(forward: Callable[[Tensor, Tensor], Sequence[Tensor]], *, vocabulary: int, max_length: int) -> bool:
    """Try on a few made-up texts whether a model's vectors follow from view and text alone.

    Parameters
    ----------
    forward : callable
        Vectors (B, D) of ids (B, T) under a mask (B, T), the model's dropout on.
    vocabulary, max_length : int
        Tokens that it knows, and takes.

    Returns
    -------
    bool
        Whether texts may be computed together; else each is to be a batch of its own.

    Raises
    ------
    EncoderUnfit
        It has no dropout, or dropout that cannot be seeded.
    """
    lengths = np.minimum(_TRIED_LENGTHS, max_length)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (len(lengths), int(lengths.max())), generator=generator).numpy()
    with torch.no_grad(), _NothingRandom():  # type: ignore[no-untyped-call]
        alone = [_trial(forward, ids[i : i + 1, :t], lengths[i : i + 1]) for i, t in enumerate(lengths)]
        expected = [torch.cat(vectors) for vectors in zip(*alone, strict=True)]
        try:
            together, found = True, _trial(forward, ids, lengths)
        except SharedDropout:
            again = [_trial(forward, ids[i : i + 1, :t], lengths[i : i + 1]) for i, t in enumerate(lengths)]
            together, found = False, [torch.cat(vectors) for vectors in zip(*again, strict=True)]
    if not all(_near(a, b) for a, b in zip(found, expected, strict=True)):
        raise EncoderUnfit(
            "with its dropout on, a text's vector depends on more than the text, so it has no dropout views.\n"
            "Leave --views out, or take another encoder."
        )
    return together


def _trial(
    forward: Callable[[Tensor, Tensor], Sequence[Tensor]], ids: NDArray[np.int64], lengths: NDArray[np.integer]
) -> Sequence[Tensor]:
    mask = np.arange(ids.shape[1]) < lengths[:, None]  # (B, T)
    with ViewDropout(View(seed=0, index=1), ids, lengths) as dropout:
        vectors = forward(torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64)))
    if not dropout.sites:
        raise EncoderUnfit(
            "all its dropout probabilities are 0, so every view would be the eval-mode vector.\nLeave --views out."
        )
    return vectors


def _near(a: Tensor, b: Tensor) -> bool:
    return bool(((a - b).abs() <= _TOLERANCE * (1 + b.abs())).all())
