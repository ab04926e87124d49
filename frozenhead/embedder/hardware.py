"""What this machine computes with: device, backend and precision, and why.

Asks the operating system first: torch is imported only where a GPU's driver is present.
"""

import importlib.util
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from frozenhead.errors import DeviceNotFound, UsageError

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Backend = Literal["torch", "openvino"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

# Instructions that multiply bf16 numbers, as Linux names them. Other systems do not tell: there auto is fp32.
_BF16_FLAGS = ("amx_bf16", "avx512_bf16")
_CPU_FACTS = Path("/proc/cpuinfo")
# One of these is there where a driver for CUDA is: Linux, Linux under Windows, Windows.
_CUDA_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", rf"{os.environ.get('SYSTEMROOT', '')}\System32\nvcuda.dll")
_BF16_CAPABILITY = 8  # Ampere: the first with tensor cores for bf16


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Where and how an encoder computes.

    Attributes
    ----------
    device : str
        `cpu` or `cuda:N`.
    backend : {"torch", "openvino"}
    precision : {"fp32", "bf16", "fp16"}
    reason : str
        Why this precision, for people.
    """

    device: str
    backend: Backend
    precision: Precision
    reason: str

    def __str__(self) -> str:
        return f"{self.precision} with {self.backend} on {self.device} ({self.reason})"


def choose_arithmetic(*, device: str = "auto", backend: str = "auto", precision: str = "auto") -> Arithmetic:
    """What to compute with, everything left to `auto` decided by this machine.

    Raises
    ------
    DeviceNotFound
        A CUDA device was asked for, and there is none of that number.
    UsageError
        What was asked for does not go together, or a backend is not installed.
    """
    where = _device("cpu" if (device, backend) == ("auto", "openvino") else device)
    chosen = _backend(backend, where)
    if precision == "auto":
        native = _native_bf16(where)
        reason = f"{native}, native here" if native else f"no native bf16 on {where}"
        return Arithmetic(device=where, backend=chosen, precision="bf16" if native else "fp32", reason=reason)
    if precision == "fp16" and where == "cpu":
        raise UsageError(
            "Precision fp16 needs a CUDA device: on a CPU it is slower than fp32 and no closer to it than bf16.\n"
            "Embed with --precision bf16, fp32 or auto."
        )
    return Arithmetic(device=where, backend=chosen, precision=precision, reason="as asked")  # type: ignore[arg-type]


def _device(device: str) -> str:
    """`cpu` or `cuda:N`."""
    if device == "cpu":
        return "cpu"
    if device == "auto":
        return "cuda:0" if cuda_devices() else "cpu"
    count = _torch_devices()
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        there = f"it has {count}" if count else "torch finds none"
        raise DeviceNotFound(
            f"Device {device} is not on this machine ({there}). Use --device cpu, or install the driver and a CUDA "
            "build of torch."
        )
    return f"cuda:{number}"


@cache
def cuda_devices() -> int:
    """How many CUDA devices torch can use; 0 without asking it where no driver is to be seen."""
    return _torch_devices() if any(os.path.exists(path) for path in _CUDA_DRIVERS) else 0


def _torch_devices() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _backend(backend: str, device: str) -> Backend:
    if backend != "openvino":
        return "torch" if backend == "torch" else preferred_backend(device)
    if device != "cpu":
        raise UsageError(f"Backend openvino computes on the CPU, not on {device}. Leave one of the two out.")
    if not _installed("openvino"):
        raise UsageError("Backend openvino is not installed. Run: pip install 'frozenhead[openvino]'")
    return "openvino"


def preferred_backend(device: str) -> Backend:
    """What `auto` is on a device: the fastest that is installed."""
    return "openvino" if device == "cpu" and _installed("openvino") else "torch"


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _native_bf16(device: str) -> str | None:
    """What multiplies bf16 numbers natively on a device, if anything does."""
    if device == "cpu":
        return next((flag for flag in _BF16_FLAGS if flag in cpu_flags()), None)
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return f"compute capability {major}.{minor}" if major >= _BF16_CAPABILITY else None


@cache
def cpu_flags() -> frozenset[str]:
    """The processor's instruction sets; none where the system has no such list."""
    try:
        lines = _CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return frozenset(flags.split())
