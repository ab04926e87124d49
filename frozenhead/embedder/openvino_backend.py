"""An encoder computed by OpenVINO on the CPU: the extra `openvino`.

The graph is converted from torch once, compared with it, and kept. Where it was kept before, torch is not needed.
"""

import logging
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frozenhead.embedder.converted import PARTS
from frozenhead.embedder.loading import quiet_transformers
from frozenhead.errors import EncoderUnfit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frozenhead.embedder.graph import PooledEncoder
    from frozenhead.embedder.hardware import Precision

logger = logging.getLogger(__name__)

# Tokens of one batch, padding included: measured on 2 cores in benchmarks/RESULTS.md.
TOKEN_BUDGET = 1024

INPUTS = ("input_ids", "attention_mask", "token_type_ids")

# A converted graph may have baked in the shapes it was traced with: it is compared on others before it is used.
_TRACED = (2, 7)
_COMPARED = ((1, 3), (3, 11), (2, 5))
_LONGEST_COMPARED = 200  # padding beyond ModernBERT's window of 64: there its converted attention gives NaN
_TOLERANCE = 1e-5


class OpenVinoBackend:
    """Computes a converted graph.

    Parameters
    ----------
    parts : tuple of bytes
        The graph and its weights, as `convert` gives them.
    precision : {"fp32", "bf16"}
    """

    def __init__(self, parts: tuple[bytes, ...], precision: "Precision") -> None:
        core = import_openvino().Core()
        hints = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "PERFORMANCE_HINT": "THROUGHPUT",  # a stream for each core or two: better than all cores at one batch
        }
        try:
            self._compiled = core.compile_model(core.read_model(model=parts[0], weights=parts[1]), "CPU", hints)
        except RuntimeError as error:
            raise EncoderUnfit(
                f"OpenVINO cannot load this encoder ({_first_line(error)}).\nUse --backend torch."
            ) from error
        self._inputs = [port.get_any_name() for port in self._compiled.inputs]
        self._idle: list[Any] = []
        self._process = os.getpid()
        self.token_budget = TOKEN_BUDGET
        self.at_once = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))

    def start(self, ids: dict[str, NDArray[np.int64]]) -> Callable[[], tuple[NDArray[np.float32], ...]]:
        """Begin with a batch; what is returned waits for its vectors (B, D) float32, one array for each pooling."""
        if self._process != os.getpid():
            raise EncoderUnfit(
                "OpenVINO was loaded in a process from which this one was forked, and would wait for ever here.\n"
                "Use backend torch, or start processes with the method spawn."
            )
        request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
        request.start_async({name: ids[name] for name in self._inputs})

        def vectors() -> tuple[NDArray[np.float32], ...]:
            try:
                request.wait()
            except RuntimeError as error:
                raise EncoderUnfit(f"OpenVINO failed ({_first_line(error)}).\nUse --backend torch.") from error
            found = tuple(
                np.array(request.get_output_tensor(i).data, np.float32) for i in range(len(self._compiled.outputs))
            )
            self._idle.append(request)
            return found

        return vectors

    def cancel(self) -> None:
        """Batches that wait are computed by threads that end with the process."""


def convert(graph: "PooledEncoder", inputs: list[str], *, max_length: int) -> tuple[bytes, ...]:
    """A graph as OpenVINO's two files, of any batch and length.

    Parameters
    ----------
    graph : PooledEncoder
    inputs : list of str
        Which of `INPUTS` the model takes, in their order.
    max_length : int
        Most tokens that the encoder takes.

    Raises
    ------
    EncoderUnfit
        OpenVINO cannot convert it, or the converted graph gives other vectors than torch.
    """
    import torch

    example = {name: torch.from_numpy(table) for name, table in _example(*_TRACED, inputs).items()}
    try:
        openvino = import_openvino()
        with torch.inference_mode(), _quiet(), quiet_transformers():
            model = openvino.convert_model(graph, example_input=example)
        for port, name in zip(model.inputs, inputs, strict=True):
            port.get_tensor().set_names({name})
        with tempfile.TemporaryDirectory() as folder:
            openvino.save_model(model, Path(folder) / PARTS[0], compress_to_fp16=False)
            parts = tuple((Path(folder) / name).read_bytes() for name in PARTS)
        shapes = (*_COMPARED, (2, min(max_length, _LONGEST_COMPARED)))
        largest = _largest_difference(graph, OpenVinoBackend(parts, "fp32"), inputs, shapes)
    # What OpenVINO raises for a graph it does not know is of many kinds.
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, NotImplementedError) as error:
        raise EncoderUnfit(
            f"OpenVINO cannot convert this encoder ({_first_line(error)}).\nUse --backend torch."
        ) from error
    if not largest <= _TOLERANCE:
        raise EncoderUnfit(
            f"OpenVINO's copy of this encoder gives other vectors (by up to {largest:.1e}).\nUse --backend torch."
        )
    return parts


def _largest_difference(
    graph: "PooledEncoder", backend: OpenVinoBackend, inputs: list[str], shapes: tuple[tuple[int, int], ...]
) -> float:
    """Between torch and a backend, over batches of several shapes, in units of 1 + |x|."""
    import torch

    differences = [0.0]
    for shape in shapes:
        ids = _example(*shape, inputs)
        with torch.inference_mode():
            expected = graph(**{name: torch.from_numpy(table) for name, table in ids.items()})
        for mine, theirs in zip(backend.start(ids)(), expected, strict=True):
            differences.append(float(np.max(np.abs(mine - theirs.numpy()) / (1 + np.abs(theirs.numpy())))))
    return float(np.max(differences))


def _example(rows: int, tokens: int, inputs: list[str]) -> dict[str, NDArray[np.int64]]:
    """A batch of ids that every vocabulary has, its last row nearly all padding."""
    ids = np.arange(rows * tokens, dtype=np.int64).reshape(rows, tokens) % 4
    mask = np.ones_like(ids)
    mask[-1, max(2, tokens // 8) :] = 0
    tables = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: tables[name] for name in inputs}


def _first_line(error: BaseException) -> str:
    return f"{(str(error).strip() or type(error).__name__).splitlines()[0]:.200}"


def import_openvino() -> Any:
    """The package, without its telemetry: importing it would send an event to its makers' statistics.

    Raises
    ------
    EncoderUnfit
        It is there but cannot be imported.
    """
    if "openvino" not in sys.modules:
        before = sys.modules.get("openvino_telemetry")
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # how Python says: not installed
        try:
            import openvino
        except ImportError as error:
            raise EncoderUnfit(
                f"openvino is installed but cannot be imported ({_first_line(error)}).\n"
                "Install it again, or use --backend torch."
            ) from error
        finally:
            if before is None:
                del sys.modules["openvino_telemetry"]
            else:
                sys.modules["openvino_telemetry"] = before
    import openvino

    return openvino


@contextmanager
def _quiet() -> "Iterator[None]":
    """Without the warnings of tracing: what they warn of, shapes baked in, is compared afterwards."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
