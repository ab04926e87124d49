"""What a safetensors file says of itself: its tensors, and how long it is.

Reads headers only, so that a file that was cut short is refused at once.
"""

import json
from pathlib import Path

_LONGEST_HEADER = 100 * 10**6  # bytes, as safetensors has it


def tensor_names(path: Path) -> list[str]:
    """The tensors in a safetensors file. Raises `ValueError` unless it is as long as its header says."""
    with open(path, "rb") as file:
        size, length = path.stat().st_size, int.from_bytes(file.read(8), "little")
        if length > max(size, _LONGEST_HEADER):
            raise ValueError(f"the header of {path.name} is damaged")
        start = file.read(length)
    if len(start) < length or size < 8:
        raise ValueError(f"{path.name} is cut short, in its header")
    try:
        header = json.loads(start)
        header.pop("__metadata__", None)
        end = 8 + length + max(tensor["data_offsets"][1] for tensor in header.values())
    except (ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"the header of {path.name} is damaged") from error
    if size != end:
        fate = "is cut short" if size < end else "is damaged"
        raise ValueError(f"{path.name} {fate}: it has {size:,} bytes, and its header says {end:,}")
    return list(header)
