"""A space: everything that defines a vector, and the id that is a hash of all of it.

Two vectors may stand in one space only if they are the same function of the text. Names, paths,
times, library versions, devices and batch sizes do not change that function, so they are not here.
"""

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from frozenhead.files import canonical_json

# Raise this when the numbers of an unchanged space change (another pooling formula, say):
# every cached vector then belongs to the past, and none is served by mistake.
NUMBERS_FORMAT = 1

StoredDtype = Literal["float32", "float16"]


@dataclass(frozen=True, kw_only=True)
class View:
    """One stochastic pass over every text, the encoder's own dropout switched on.

    Parameters
    ----------
    seed : int
        Of the dropout masks; views of one seed belong together.
    index : int
        1, 2, ...: another index, other masks.
    """

    seed: int
    index: int

    def __post_init__(self) -> None:
        for name, value, least in (("seed", self.seed, 0), ("index", self.index, 1)):
            if type(value) is not int or value < least:
                raise ValueError(f"A view's {name} is a whole number from {least}, got {value!r}.")

    def __str__(self) -> str:
        return f"{self.index} of seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Space:
    """What defines a vector.

    Parameters
    ----------
    files : tuple of (name, sha256)
        Every weight, config and tokenizer file of the checkpoint, by its name in the folder.
    pooling : str
        How token states become one vector.
    layer : int
        Which layer's states are pooled; -1 is the last.
    max_length : int
        Tokens kept, special tokens included.
    truncation_side : {"right", "left"}
        Where longer texts are cut.
    special_tokens : bool
        Whether [CLS] and [SEP] are added.
    prefix : str
        Put before every text.
    normalize : bool
        Whether vectors are scaled to length 1.
    precision : {"fp32", "bf16", "fp16"}
        Class of the arithmetic.
    long : {"cut", "windows"}
        What becomes of longer texts: cut, or read in windows of `max_length` tokens whose vectors are averaged.
    dtype : {"float32", "float16"}
        How vectors are stored.
    dim : int
        D, the size of a vector.
    numbers_format : int
        Raised when the numbers of this version of frozenhead change.
    view : View, optional
        The dropout pass that the vectors are of; None is eval mode, without dropout.
    """

    files: tuple[tuple[str, str], ...]
    pooling: str
    max_length: int
    dim: int
    layer: int = -1
    truncation_side: Literal["right", "left"] = "right"
    special_tokens: bool = True
    prefix: str = ""
    normalize: bool = False
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    dtype: StoredDtype = "float32"
    long: Literal["cut", "windows"] = "cut"
    numbers_format: int = NUMBERS_FORMAT
    view: View | None = None

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("A space needs the hashes of its checkpoint's files; none were given.")
        if self.max_length < 1 or self.dim < 1:
            raise ValueError(f"max_length and dim must be at least 1, got {self.max_length} and {self.dim}.")
        object.__setattr__(self, "files", tuple(sorted((str(n), str(h)) for n, h in self.files)))
        if len(dict(self.files)) != len(self.files):
            raise ValueError("A checkpoint's file is named twice; which of its two hashes counts is not known.")

    @property
    def id(self) -> str:
        """sha256 of the canonical JSON of every field: 64 hexadecimal digits."""
        return hashlib.sha256(canonical_json(self.to_dict())).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, as they stand in `space.json`."""
        fields = {**dataclasses.asdict(self), "files": dict(self.files)}
        if self.long == "cut":
            del fields["long"]  # spaces that are older than the field keep their ids
        if self.view is None:
            del fields["view"]  # likewise
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Space":
        """The space that `to_dict` described. Raises `TypeError` or `KeyError` on other fields."""
        view = {"view": View(**fields["view"])} if "view" in fields else {}
        return cls(**{**fields, "files": tuple(fields["files"].items()), **view})

    def difference(self, other: "Space") -> str:
        """The fields in which two spaces differ, for people: `max_length 25 instead of 128`."""
        mine, theirs = ({**dataclasses.asdict(s), "view": s.view or "none"} for s in (self, other))
        changed = [name for name in mine if mine[name] != theirs[name]]
        values = {n: [repr(v) if n == "prefix" else v for v in (mine[n], theirs[n])] for n in changed}  # may be empty
        parts = [f"{n} {a} instead of {b}" for n, (a, b) in values.items() if n != "files"]
        return ", ".join(["other checkpoint files"] * ("files" in values) + parts) or "nothing"
