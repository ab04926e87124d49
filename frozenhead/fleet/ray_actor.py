"""What runs on Ray's workers: rows become texts with an owner, and an actor embeds the texts that it alone owns.

Imported by name on every host of the cluster, so frozenhead must be installed there. Loads no Ray.
"""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from frozenhead.cache import distinct_keys, text_keys
from frozenhead.cache.keys import key_shares
from frozenhead.errors import FrozenheadError
from frozenhead.files import host_name
from frozenhead.fleet.cores import take_slot
from frozenhead.fleet.station import Orders, Station
from frozenhead.texts import Texts

if TYPE_CHECKING:
    import pyarrow as pa

TEXT, OWNER = "text", "owner"
OWNERS = 2**62  # so many that Ray's hash of them spreads texts evenly over any number of blocks


def owned_texts(table: "pa.Table", *, column: str, prefix: str) -> "pa.Table":
    """The distinct texts of some rows, and the number that decides in which block each ends: equal for equal keys."""
    import pyarrow as pa

    texts = Texts(table.column(column).cast(pa.large_string()).drop_null())
    keys = text_keys(texts, prefix=prefix)
    first, _ = distinct_keys(keys)
    owners = key_shares(keys[first], OWNERS)
    return pa.table({TEXT: texts.column.take(pa.array(first)), OWNER: pa.array(owners)})


class EmbedActor:
    """Loads the encoder once and embeds block after block into the shared cache; gives back counts only.

    Never raises: a worker that must not go on, or a block that cannot be embedded, is a row like the others, and the
    driver decides. Whatever kills the process is Ray's to see, and to try again: what was committed is found then.

    Parameters
    ----------
    orders : dict
        The fields of `Orders`.
    cores : int
        That this actor may use; 0 says nothing of them.
    """

    def __init__(self, orders: dict[str, Any], cores: int) -> None:
        self._refusal, self._station = "", None
        if cores:
            take_slot(cores)
        try:
            self._station = Station(Orders.from_dict(orders))
        except FrozenheadError as error:
            self._refusal = str(error)

    def __call__(self, block: "pa.Table") -> dict[str, Any]:
        """One row of counts for a block of texts that no other block has."""
        texts = Texts(block.column(TEXT))
        counts: dict[str, Any] = {"computed": 0, "arithmetic": "", "refusal": self._refusal, "error": ""}
        if self._station is not None and len(texts):
            try:
                embedded = self._station.embed(texts)
                counts |= {"computed": embedded.computed, "arithmetic": str(embedded.arithmetic or "")}
            except Exception as error:  # noqa: BLE001 (whatever it is, the other blocks go on, and the driver is told)
                known = isinstance(error, FrozenheadError)
                counts["error"] = str(error) if known else f"{type(error).__name__}: {error}"
        worker = f"{host_name()}:{os.getpid()}"
        return {name: np.array([value]) for name, value in {**counts, "worker": worker}.items()}
