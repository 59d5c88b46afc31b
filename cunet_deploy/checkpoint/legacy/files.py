"""The authors' checkpoint files, read without running anything that stands in them.

PyTorch 0.1 to 0.4 wrote them under Python 2: five pickles (a magic number, the format's version, the machine, the
object, the keys of its storages), then for each storage its length and its numbers. PyTorch's own safe reader stops in
such a file: it knows neither the opcode for integers of more than 32 bits, which the optimizer's state is keyed by, nor
numpy's scalars in the training history.

An unpickler calls the functions that a file names. Here every admitted name stands for a function of this module that
makes an inert record, and any other name ends the reading.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cunet_deploy.checkpoint.storage import read_tensors
from cunet_deploy.errors import CunetError, InputError, UntrustedError

__all__ = ["read_state"]

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_ZIP = b"PK\x03\x04"
_STORAGES = {
    f"{module}.{name}Storage": dtype
    for module in ("torch", "torch.cuda")
    for name, dtype in (
        ("Double", "<f8"),
        ("Float", "<f4"),
        ("Half", "<f2"),
        ("Long", "<i8"),
        ("Int", "<i4"),
        ("Short", "<i2"),
        ("Char", "<i1"),
        ("Byte", "<u1"),
    )
}
_EXPECTED = "expected a checkpoint of the authors (.pth.tar)"


class _Storage(NamedTuple):
    """Location of a tensor's numbers: those of the storage ``key`` from ``offset`` on."""

    key: str
    dtype: str
    numel: int
    offset: int


class _TensorRecord(NamedTuple):
    """Description of a tensor in a file."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: object) -> None:
        """A parameter's hooks: dropped."""


class _Table(dict[Any, Any]):
    """An ``OrderedDict``."""

    def __setstate__(self, state: object) -> None:
        """The attributes of a state dict, such as its version: dropped."""


class _Number:
    """A numpy scalar, array or type of the training history, which nobody asks for."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_ADMITTED: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": _Table,
    "torch._utils._rebuild_tensor": lambda *arguments: _TensorRecord(*arguments),
    "torch._utils._rebuild_tensor_v2": lambda *arguments: _TensorRecord(*arguments[:4]),
    "torch.nn.parameter.Parameter": lambda data, *rest: data,
    "numpy.dtype": _Number,
    "numpy.ndarray": _Number,
    "numpy.core.multiarray.scalar": _Number,
    "numpy.core.multiarray._reconstruct": _Number,
}


class _Reader(pickle.Unpickler):
    """Reads one of the pickles of a file; afterwards ``storages`` holds the type and length of each storage named."""

    def __init__(self, file: io.BytesIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")
        self._file, self._path = file, path
        self.storages: dict[str, tuple[str, int]] = {}

    def load_checked(self) -> Any:
        """The object. Numbers of its memo are looked at first: memory is taken for as many as the largest one says."""
        start, size = self._file.tell(), len(self._file.getbuffer())
        for code, argument, _ in pickletools.genops(self._file):
            if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument is not None and argument > size:
                raise ValueError("it remembers more objects than it can hold")
        self._file.seek(start)
        return self.load()

    def find_class(self, module: str, name: str) -> object:
        """Return the class that stands for a name."""
        full = f"{module}.{name}"
        if full in _STORAGES:
            return full
        if full not in _ADMITTED:
            raise self._refused(full)
        # A function of its own for each use: a file can set attributes of what it is given.
        return lambda *arguments: _ADMITTED[full](*arguments)

    def persistent_load(self, pid: object) -> _Storage:
        """A storage, whose numbers follow behind the pickles."""
        match pid:
            case ("storage", str(kind), str(key), _, int(numel), view) if kind in _STORAGES and numel >= 0:
                dtype, offset = _STORAGES[kind], view[1] if isinstance(view, tuple) else 0
                if self.storages.setdefault(key, (dtype, numel)) != (dtype, numel):
                    raise ValueError(f"storage {key[:20]} has two lengths or types")
                return _Storage(key, dtype, numel, offset)
        raise self._refused("an object from outside the file")

    def _refused(self, what: str) -> UntrustedError:
        return UntrustedError(
            f"{self._path}: refused: it asks for {what[:80]!r}, which is neither a tensor nor a plain container; "
            "nothing was executed. Download the file from its makers again"
        )


def read_state(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint of the authors, by the names of their modules, without the prefix ``module.``.

    Files in today's format of ``torch.save`` are read too.

    Raises:
        InputError: the file is missing, cut off or something else.
        UntrustedError: it is a pickle that asks for code.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_EXPECTED}") from error
    if data.startswith(_ZIP):
        return _weights(read_tensors(path, "checkpoint"), path, {})
    try:
        table, numbers = _read(data, path)
        return _weights(table, path, numbers)
    except CunetError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(
            f"{path}: is not a checkpoint of the authors or is cut off ({reason}); {_EXPECTED}, download it again"
        ) from error


def _read(data: bytes, path: Path) -> tuple[object, dict[str, NDArray[Any]]]:
    """The object of a file, with records in place of tensors, and the numbers of the storages by key."""
    file = io.BytesIO(data)
    magic, version, system = (_Reader(file, path).load_checked() for _ in range(3))
    if (magic, version) != (_MAGIC, _VERSION):
        raise ValueError("no file of torch.save")
    if not system["little_endian"]:
        raise ValueError("written on a big-endian machine")
    reader = _Reader(file, path)
    table = reader.load_checked()
    numbers: dict[str, NDArray[Any]] = {}
    for key in _Reader(file, path).load_checked():
        dtype, numel = reader.storages[key]
        if int.from_bytes(file.read(8), "little") != numel:
            raise ValueError(f"storage {key[:20]} has another length than its tensors say")
        numbers[key] = np.frombuffer(data, dtype, numel, file.tell())  # complains where the file ends too early
        file.seek(numbers[key].nbytes, io.SEEK_CUR)
    return table, numbers


def _weights(table: object, path: Path, numbers: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    state = table.get("state_dict") if isinstance(table, dict) else None
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds no state_dict; {_EXPECTED}")
    weights = {}
    for name, value in state.items():
        tensor = _tensor(value, numbers) if isinstance(value, _TensorRecord) else value
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise InputError(f"{path}: its state_dict holds more than named tensors; {_EXPECTED}")
        weights[name.removeprefix("module.")] = tensor
    return weights


def _tensor(record: _TensorRecord, numbers: Mapping[str, NDArray[Any]]) -> Tensor:
    storage = record.storage
    if math.prod(record.size) > storage.numel:
        raise ValueError(f"a tensor of {math.prod(record.size)} numbers in a storage of {storage.numel}")
    values = torch.from_numpy(numbers[storage.key].copy())
    return values.as_strided(record.size, record.stride, storage.offset + record.offset)
