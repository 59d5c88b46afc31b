"""The GPU of this machine, asked through the driver's own library: no Python package is needed for it."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Gpu", "local_gpu"]

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        compute_capability: 87 for 8.7.
        cuda: newest CUDA that the driver supports, "12.6".
        driver: version of the driver; ``None`` where it is not told.
    """

    compute_capability: int
    cuda: str
    driver: str | None


@functools.cache
def local_gpu() -> Gpu | None:
    """The first GPU, or ``None`` where there is no driver or no device."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, version = ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDriverGetVersion(ctypes.byref(version)):
        return None
    numbers = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int()
        if cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
        numbers.append(value.value)
    return Gpu(numbers[0] * 10 + numbers[1], f"{version.value // 1000}.{version.value % 1000 // 10}", _driver())


def _driver() -> str | None:
    for path in ("/sys/module/nvidia/version", "/etc/nv_tegra_release"):
        try:
            return Path(path).read_text(encoding="utf-8").splitlines()[0].strip()[:80]
        except (OSError, IndexError, UnicodeDecodeError):
            continue
    return None
