"""An encoder computed by torch, on the CPU or on a CUDA device."""

import copy
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frozenhead.cache.space import View
from frozenhead.embedder.dropout import ViewDropout
from frozenhead.embedder.graph import PooledEncoder
from frozenhead.embedder.hardware import Arithmetic
from frozenhead.errors import EncoderUnfit

T = TypeVar("T")

# Batches computed at once on a CPU, each on its share of the cores.
MOST_WORKERS = 16
# Tokens of one batch, padding included. Measured on 2 cores in benchmarks/RESULTS.md.
CPU_TOKEN_BUDGET = 2048
# On CUDA by free memory, within these bounds. None of the three has been measured.
CUDA_TOKEN_BUDGETS = (4096, 65536)
CUDA_SHARE = 0.3


class TorchBackend:
    """Computes a `PooledEncoder` in one precision on one device.

    Parameters
    ----------
    graph : PooledEncoder
    arithmetic : Arithmetic
    view : View, optional
        Whose dropout masks to take; the graph's dropout is on then.
    together : bool
        Whether texts may share a batch; else each is computed alone, which some models' dropout needs.
    """

    def __init__(
        self, graph: PooledEncoder, arithmetic: Arithmetic, *, view: View | None = None, together: bool = True
    ) -> None:
        self.view, self.together = view, together
        self.device = torch.device(arithmetic.device)
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[arithmetic.precision]
        if self.dtype == torch.float32 and self.device.type == "cuda" and _reduced_fp32():
            raise EncoderUnfit(
                "torch is set to multiply float32 in a shorter format (TF32), which fp32 here is not.\n"
                "Call torch.set_float32_matmul_precision('highest'), or choose --precision bf16."
            )
        with _memory_errors():
            self.graph = graph.to(self.device)
        if self.dtype != torch.float32:
            for module in graph.modules():
                if isinstance(module, torch.nn.Linear):
                    module.to(self.dtype)  # once, not in every product; norms and residual sums stay in fp32
            for name, parameter in graph.named_parameters():
                if name.endswith((".q_bias", ".v_bias")):  # DeBERTa's, of products; in fp32 its mask would overflow
                    parameter.data = parameter.data.to(self.dtype)
        self._workers = _Workers() if self.device.type == "cpu" else None
        self.token_budget = CPU_TOKEN_BUDGET if self._workers is not None else self._cuda_budget()
        self.at_once = self._workers.count if self._workers is not None else 2

    def of_view(self, view: View) -> "TorchBackend":
        """The same, under the masks of another view."""
        other = copy.copy(self)
        other.view = view
        return other

    def start(self, ids: dict[str, NDArray[np.int64]]) -> Callable[[], tuple[NDArray[np.float32], ...]]:
        """Begin with a batch; what is returned waits for its vectors (B, D) float32, one array for each pooling.

        Raises
        ------
        MemoryError
            The batch is too large for the device.
        """
        if self._workers is not None:
            return self._workers.submit(lambda: tuple(v.numpy() for v in self._vectors(ids)))
        return self._to_host(self._vectors(ids))

    def _vectors(self, ids: dict[str, NDArray[np.int64]]) -> list[Tensor]:
        """Vectors (B, D) float32 on the device, one tensor for each pooling."""
        with _memory_errors(), torch.inference_mode(), self._precision():
            if self.together:
                return [v.float() for v in self._forward(ids)]
            alone = [self._forward(row) for row in _single_rows(ids)]
            return [torch.cat(vectors).float() for vectors in zip(*alone, strict=True)]

    def _forward(self, ids: dict[str, NDArray[np.int64]]) -> tuple[Tensor, ...]:
        inputs: dict[str, Any] = {name: self._to_device(torch.from_numpy(table)) for name, table in ids.items()}
        mask = ids["attention_mask"]
        if self.view is not None:
            with ViewDropout(self.view, ids["input_ids"], mask.sum(axis=1)):
                return tuple(self.graph(**inputs))
        if self.graph.fused and mask.all():
            inputs["attention_mask"] = None  # attention has a quicker way when nothing is padded
        return tuple(self.graph(**inputs))

    def _to_device(self, table: Tensor) -> Tensor:
        if self._workers is not None:
            return table
        return table.pin_memory().to(self.device, non_blocking=True)

    def _to_host(self, vectors: list[Tensor]) -> Callable[[], tuple[NDArray[np.float32], ...]]:
        """The copy back, under way: the device goes on with the next batch meanwhile."""
        with _memory_errors():
            pinned = [torch.empty(v.shape, dtype=v.dtype, pin_memory=True) for v in vectors]
        for host, vector in zip(pinned, vectors, strict=True):
            host.copy_(vector, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(self.device))

        def wait() -> tuple[NDArray[np.float32], ...]:
            copied.synchronize()
            return tuple(host.numpy() for host in pinned)

        return wait

    def _cuda_budget(self) -> int:
        """Tokens for which the activations of a layer take `CUDA_SHARE` of the free memory."""
        free, _ = torch.cuda.mem_get_info(self.device)
        wide = max((m.out_features for m in self.graph.modules() if isinstance(m, torch.nn.Linear)), default=4096)
        least, most = CUDA_TOKEN_BUDGETS
        # About four tensors as wide as the feed-forward net, in fp32 at worst, are alive at once.
        return int(min(max(free * CUDA_SHARE / (4 * wide * 4), least), most))

    def _precision(self) -> AbstractContextManager[Any]:
        """This space's arithmetic, whatever autocast the caller may be in."""
        if self.dtype == torch.float32:
            return torch.autocast(self.device.type, enabled=False)
        return torch.autocast(self.device.type, self.dtype)

    def cancel(self) -> None:
        """Do not begin with batches that wait."""
        if self._workers is not None:
            self._workers.cancel()


def _single_rows(ids: dict[str, NDArray[np.int64]]) -> Iterator[dict[str, NDArray[np.int64]]]:
    """Batches of one text each, without padding."""
    for i, length in enumerate(ids["attention_mask"].sum(axis=1)):
        yield {name: table[i : i + 1, :length] for name, table in ids.items()}


def _reduced_fp32() -> bool:
    return torch.get_float32_matmul_precision() != "highest"


class _Workers:
    """Threads that compute one batch each, so that products too small for all cores keep them all busy.

    Threads that share a batch wait for each other by spinning, and lose most where other processes want the cores.
    """

    def __init__(self) -> None:
        self._threads = torch.get_num_threads()
        self.count = min(self._threads, MOST_WORKERS)
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def submit(self, compute: Callable[[], T]) -> Callable[[], T]:
        """Have it computed; what is returned waits for the result."""
        if self._pool is None or self._process != os.getpid():  # a fork has none of its parent's threads
            self._pool, self._process = self._start(), os.getpid()
        return self._pool.submit(compute).result

    def cancel(self) -> None:
        """Drop what has not begun: the interpreter would compute it all before it ends."""
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _start(self) -> ThreadPoolExecutor:
        share = self._threads // self.count
        pool = ThreadPoolExecutor(
            self.count, "frozenhead-encoder", initializer=torch.set_num_threads, initargs=(share,)
        )
        together = threading.Barrier(self.count, timeout=60)
        for begun in [pool.submit(together.wait) for _ in range(self.count)]:
            begun.result()
        torch.set_num_threads(self._threads)  # each thread has its own number, but new ones take the last that was set
        return pool


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn what torch raises when memory runs out, on a device or the host, into `MemoryError`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error)) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # the CPU's allocator has no type of its own for it
            raise MemoryError(str(error)) from error
        raise
