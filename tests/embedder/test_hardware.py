"""What `auto` stands for, and what is refused."""

from typing import Any

import pytest

from frozenhead.embedder import hardware
from frozenhead.embedder.hardware import choose_arithmetic
from frozenhead.errors import DeviceNotFound, UsageError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`machine(flags, installed, devices)`: a processor, its packages and its CUDA devices."""

    def made(*, flags: str = "", installed: bool = False, devices: int = 0) -> None:
        monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset(flags.split()))
        monkeypatch.setattr(hardware, "_installed", lambda package: installed)
        monkeypatch.setattr(hardware, "cuda_devices", lambda: devices)
        monkeypatch.setattr(hardware, "_torch_devices", lambda: devices)

    return made


@pytest.mark.parametrize(
    ("flags", "precision"),
    [("sse avx2", "fp32"), ("avx512f avx512_bf16", "bf16"), ("amx_tile amx_bf16", "bf16"), ("", "fp32")],
)
def test_auto_is_bf16_where_the_processor_has_it(machine: Any, flags: str, precision: str) -> None:
    machine(flags=flags)
    chosen = choose_arithmetic(device="auto")
    assert (chosen.device, chosen.precision) == ("cpu", precision)
    assert "native" in str(chosen)
    assert precision in str(chosen)


def test_what_was_asked_for_is_what_is_chosen(machine: Any) -> None:
    machine(flags="avx512_bf16")
    assert choose_arithmetic(precision="fp32", backend="torch").precision == "fp32"
    machine(flags="")
    assert choose_arithmetic(precision="bf16", backend="torch").precision == "bf16"


def test_fp16_on_a_cpu_is_refused_in_favour_of_others(machine: Any) -> None:
    machine()
    with pytest.raises(UsageError, match=r"bf16, fp32"):
        choose_arithmetic(precision="fp16", device="cpu")


@pytest.mark.parametrize(("device", "devices"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_cuda_device_that_is_not_there_is_an_encoder_error(machine: Any, device: str, devices: int) -> None:
    machine(devices=devices)
    with pytest.raises(DeviceNotFound, match="--device cpu") as caught:
        choose_arithmetic(device=device)
    assert caught.value.exit_code == 4


def test_openvino_computes_on_the_cpu_only_and_must_be_installed(machine: Any) -> None:
    machine(installed=True, devices=1)
    assert choose_arithmetic(backend="openvino").device == "cpu"
    with pytest.raises(UsageError, match="on the CPU"):
        choose_arithmetic(backend="openvino", device="cuda:0")
    machine(installed=False)
    with pytest.raises(UsageError, match="pip install"):
        choose_arithmetic(backend="openvino")


def test_without_a_driver_torch_is_not_asked_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_CUDA_DRIVERS", ("/nowhere/at/all",))
    monkeypatch.setitem(__import__("sys").modules, "torch", None)  # importing it would raise
    hardware.cuda_devices.cache_clear()
    assert hardware.cuda_devices() == 0
    hardware.cuda_devices.cache_clear()
