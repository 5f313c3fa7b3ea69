"""Devices as torch names them, and their memory."""

import gc
import os
from typing import Annotated

import msgspec

Device = Annotated[
    str, msgspec.Meta(pattern=r"^(cpu|mps|cuda(:\d+)?)$", description="cpu, mps, cuda or cuda:NUMBER")
]
"""A device as an engine and a reward model take it."""


def default_device() -> str:
    """The fastest kind of device of this machine."""
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def has_bfloat16(device: str) -> bool:
    """Whether a device computes in bfloat16 natively."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    return device == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def free_memory(device: str = "cpu") -> int:
    """Bytes of memory that are free on a device; half of all if the system does not report it."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    pages = os.sysconf("SC_AVPHYS_PAGES") if "SC_AVPHYS_PAGES" in os.sysconf_names else 0
    return os.sysconf("SC_PAGE_SIZE") * (pages or os.sysconf("SC_PHYS_PAGES") // 2)


def release_memory(device: str) -> None:
    """Return to the device the memory of models that nothing refers to any more."""
    import torch

    gc.collect()  # a model may refer to itself
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
