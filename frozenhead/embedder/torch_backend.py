"""An encoder computed by torch, on the CPU or on a CUDA device."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frozenhead.embedder.graph import PooledEncoder
from frozenhead.embedder.hardware import Arithmetic

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
    """

    def __init__(self, graph: PooledEncoder, arithmetic: Arithmetic) -> None:
        self.device = torch.device(arithmetic.device)
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[arithmetic.precision]
        self.graph = graph.to(self.device)
        if self.dtype != torch.float32:
            for module in graph.modules():
                if isinstance(module, torch.nn.Linear):
                    module.to(self.dtype)  # once, not in every product; norms and residual sums stay in fp32
        self.token_budget = CPU_TOKEN_BUDGET if self.device.type == "cpu" else self._cuda_budget()

    def start(self, ids: dict[str, NDArray[np.int64]]) -> Callable[[], tuple[NDArray[np.float32], ...]]:
        """Begin with a batch; what is returned waits for its vectors (B, D) float32, one array for each pooling.

        Raises
        ------
        MemoryError
            The batch is too large for the device.
        """
        with _memory_errors(), torch.inference_mode(), self._precision():
            inputs: dict[str, Any] = {name: self._to_device(torch.from_numpy(table)) for name, table in ids.items()}
            if self.graph.fused and ids["attention_mask"].all():
                inputs["attention_mask"] = None  # attention has a quicker way when nothing is padded
            return self._to_host([v.float() for v in self.graph(**inputs)])

    def _to_device(self, table: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return table
        return table.pin_memory().to(self.device, non_blocking=True)

    def _to_host(self, vectors: list[Tensor]) -> Callable[[], tuple[NDArray[np.float32], ...]]:
        """The copy back, under way: the device goes on with the next batch meanwhile."""
        if self.device.type == "cpu":
            return lambda: tuple(v.numpy() for v in vectors)
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
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


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
