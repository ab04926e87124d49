"""How texts become vectors: what was asked for, what `auto` stands for, and the space that follows.

Loads neither torch nor transformers, so that a warm cache answers at once.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal

from frozenhead.cache import Space
from frozenhead.cache.space import View
from frozenhead.embedder.checkpoint import Checkpoint
from frozenhead.embedder.hardware import BACKENDS, PRECISIONS, Arithmetic, Backend, Precision, choose_arithmetic
from frozenhead.embedder.pooling import POOLINGS, Pooling
from frozenhead.embedder.windows import LONGS, SHORTEST_WINDOW, Long
from frozenhead.errors import EncoderUnfit, UsageError

AUTO: tuple[str, ...] = ("auto",)

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class EmbedSettings:
    """How texts become vectors.

    Parameters
    ----------
    poolings : tuple of {"pooler", "cls", "mean", "max", "last4"}, or ("auto",)
        `auto` is what the folder's sentence-transformers files say (with their length, prompt and normalisation);
        without them `pooler` where it was trained, else `mean`.
    layer : int
        Which layer's states are pooled: -1 the last, -2 the one before, ...; or 0 the embeddings, 1 the first, ...
    max_length : int, optional
        Tokens kept, [CLS] and [SEP] included; default the encoder's own limit.
    prefix : str, optional
        Put before every text; default none, or with `auto` the folder's default prompt.
    normalize : bool, optional
        Scale vectors to length 1; default no, or with `auto` what the folder says.
    long : {"cut", "windows"}
        What becomes of longer texts: cut, or read in overlapping windows; see `windows.py`.
    precision : {"auto", "fp32", "bf16", "fp16"}
        Class of the arithmetic; `auto` is bf16 where the hardware multiplies it natively, else fp32.
    device : str
        `auto`, `cpu`, `cuda` or `cuda:N`.
    backend : {"auto", "torch", "openvino"}
        `auto` is openvino on a CPU where it is installed, else torch.
    view : View, optional
        Compute with the encoder's own dropout, under this view's masks, with torch; by default without (eval mode).
    """

    poolings: tuple[Pooling, ...] = ("pooler",)  # or AUTO, until `follow_folder`
    layer: int = -1
    max_length: int | None = None
    prefix: str | None = None
    normalize: bool | None = None
    long: Long = "cut"
    precision: Literal["auto"] | Precision = "auto"
    device: str = "auto"
    backend: Literal["auto"] | Backend = "auto"
    view: View | None = None

    def __post_init__(self) -> None:
        wrong = [p for p in self.poolings if p not in POOLINGS] if self.poolings != AUTO else []
        if wrong or not self.poolings:
            raise UsageError(
                f"Pooling {', '.join(map(repr, wrong)) or 'none'}: choose from {', '.join(POOLINGS)}, or auto alone."
            )
        if len(set(self.poolings)) != len(self.poolings):
            raise UsageError(f"A pooling stands twice in {','.join(self.poolings)}.")
        if self.long not in LONGS:
            raise UsageError(f"Long texts {self.long!r}: choose {' or '.join(LONGS)}.")
        if self.precision not in ("auto", *PRECISIONS):
            raise UsageError(f"Precision {self.precision!r}: choose auto, {', '.join(PRECISIONS)}.")
        if self.backend not in ("auto", *BACKENDS):
            raise UsageError(f"Backend {self.backend!r}: choose auto, {', '.join(BACKENDS)}.")
        if not _DEVICE.fullmatch(self.device):
            raise UsageError(f"Device {self.device!r} is none of auto, cpu, cuda, cuda:N.")
        if self.view is not None and self.backend == "openvino":
            raise UsageError("Dropout views are computed by torch: use --backend torch or auto.")

    @property
    def arithmetic(self) -> Arithmetic:
        """Where and in what precision to compute on this machine."""
        backend = "torch" if self.view is not None else self.backend
        return choose_arithmetic(device=self.device, backend=backend, precision=self.precision)


def follow_folder(settings: EmbedSettings, checkpoint: Checkpoint) -> EmbedSettings:
    """The settings with pooling `auto`, prefix and normalisation decided by the checkpoint's folder.

    Raises
    ------
    EncoderUnfit
        The folder's sentence-transformers files ask for what frozenhead does not compute.
    """
    said = checkpoint.modules if settings.poolings == AUTO else None
    if said is not None and said.refusal:
        raise EncoderUnfit(said.refusal)
    poolings = settings.poolings
    if poolings == AUTO:
        poolings = (said.pooling if said else "pooler" if checkpoint.has_pooler else "mean",)
    length = min(said.max_length, checkpoint.max_length) if said and said.max_length else None
    return dataclasses.replace(
        settings,
        poolings=poolings,
        max_length=length if settings.max_length is None else settings.max_length,
        prefix=(said.prefix if said else "") if settings.prefix is None else settings.prefix,
        normalize=(said is not None and said.normalize) if settings.normalize is None else settings.normalize,
    )


def decide(settings: EmbedSettings, checkpoint: Checkpoint) -> EmbedSettings:
    """The settings with everything decided that defines a vector: what was left open follows from the checkpoint.

    Raises
    ------
    EncoderUnfit, UsageError
        The checkpoint cannot give what was asked for.
    """
    settings = follow_folder(settings, checkpoint)
    for pooling in settings.poolings:
        checkpoint.check_pooling(pooling)
    max_length = checkpoint.max_length if settings.max_length is None else settings.max_length
    if settings.long == "windows" and max_length < SHORTEST_WINDOW:
        raise UsageError(
            f"max_length is {max_length}; windows need at least {SHORTEST_WINDOW} tokens. Raise it, or cut long texts."
        )
    return dataclasses.replace(
        settings,
        layer=checkpoint.check_layer(settings.layer, settings.poolings),
        max_length=checkpoint.check_length(max_length),
        precision=settings.arithmetic.precision if settings.precision == "auto" else settings.precision,
    )


def space_of(checkpoint: Checkpoint, pooling: Pooling, settings: EmbedSettings) -> Space:
    """The space of one pooling of a checkpoint. Raises if the checkpoint cannot give it."""
    followed = follow_folder(settings, checkpoint)
    decided = decide(dataclasses.replace(followed, poolings=(pooling,)), checkpoint)
    assert decided.max_length is not None  # noqa: S101 (what `decide` is for)
    assert decided.precision != "auto"  # noqa: S101
    return Space(
        files=checkpoint.files,
        pooling=pooling,
        layer=decided.layer,
        max_length=decided.max_length,
        prefix=decided.prefix or "",
        normalize=bool(decided.normalize),
        dim=checkpoint.dim_of(pooling),
        precision=decided.precision,
        dtype="float32" if decided.precision == "fp32" else "float16",
        long=decided.long,
        view=decided.view,
    )


def settings_of(space: Space, *, device: str = "auto") -> EmbedSettings:
    """The settings that give the vectors of a space, on any device and backend: what `space_of` undoes."""
    return EmbedSettings(
        poolings=(space.pooling,),  # type: ignore[arg-type]  # checked by EmbedSettings
        layer=space.layer,
        max_length=space.max_length,
        prefix=space.prefix,
        normalize=space.normalize,
        long=space.long,
        precision=space.precision,
        device=device,
        view=space.view,
    )
