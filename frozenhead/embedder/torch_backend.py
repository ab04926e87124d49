"""An encoder computed by torch, on the CPU or on a CUDA device."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from frozenhead.embedder.graph import PooledEncoder
from frozenhead.embedder.hardware import Arithmetic

# Tokens of one batch, padding included. The first is measured on 2 cores in benchmarks/RESULTS.md, the second is not.
CPU_TOKEN_BUDGET = 2048
CUDA_TOKEN_BUDGET = 32768


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
        self.token_budget = CUDA_TOKEN_BUDGET if self.device.type == "cuda" else CPU_TOKEN_BUDGET
        if self.dtype != torch.float32:
            for module in graph.modules():
                if isinstance(module, torch.nn.Linear):
                    module.to(self.dtype)  # once, not in every product; norms and residual sums stay in fp32
            for name, parameter in graph.named_parameters():
                if name.endswith((".q_bias", ".v_bias")):  # DeBERTa's, of products; in fp32 its mask would overflow
                    parameter.data = parameter.data.to(self.dtype)

    def start(
        self, ids: dict[str, NDArray[np.int64]], *, padded: bool
    ) -> Callable[[], tuple[NDArray[np.float32], ...]]:
        """Begin with a batch; what is returned waits for its vectors (B, D) float32, one array for each pooling."""
        inputs: dict[str, Any] = {name: torch.from_numpy(table).to(self.device) for name, table in ids.items()}
        if not padded and self.graph.fused:
            inputs["attention_mask"] = None
        with torch.inference_mode(), self._precision():
            vectors = self.graph(**inputs)
        return lambda: tuple(v.float().cpu().numpy() for v in vectors)

    def _precision(self) -> AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)
