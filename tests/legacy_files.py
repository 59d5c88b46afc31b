"""The authors' network, and its checkpoints written byte for byte as PyTorch 0.4 did under Python 2.

Names, widths and the network follow from the paper and the names alone; nothing of the package is used.
"""

from __future__ import annotations

import math
import re
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class Raw(NamedTuple):
    """Opcodes, put where an object should stand."""

    code: bytes


class Name(NamedTuple):
    """A class or a function."""

    module: str
    name: str


class Persistent(NamedTuple):
    """An object that the pickle leaves to the reader."""

    identity: object


class Call(NamedTuple):
    """Result of a function, then given a state."""

    name: Name
    arguments: tuple[object, ...]
    state: object = None


class Shape(NamedTuple):
    """N, K, P and the widths."""

    unets: int = 2
    order: int = 1
    landmarks: int = 68
    channels: int = 8
    growth: int = 4
    bottleneck: int = 2
    depth: int = 2


def authors_state(shape: Shape, seed: int = 0) -> OrderedDict[str, Tensor]:
    """Random weights of a network that could have been trained, by the names in a ``.pth.tar``."""
    random = torch.Generator().manual_seed(seed)
    state: OrderedDict[str, Tensor] = OrderedDict()

    def norm(name: str, width: int) -> None:
        for tensor, low, high in (("weight", 0.5, 1.5), ("bias", -0.3, 0.3)):
            state[f"module.{name}.{tensor}"] = torch.rand(width, generator=random) * (high - low) + low
        state[f"module.{name}.running_mean"] = torch.randn(width, generator=random) * 0.1
        state[f"module.{name}.running_var"] = torch.rand(width, generator=random) + 0.5

    def conv(name: str, out: int, width: int, kernel: int = 1) -> None:
        values = torch.randn(out, width, kernel, kernel, generator=random)
        state[f"module.{name}.weight"] = values / math.sqrt(width * kernel * kernel)

    n, k, c, g = shape.unets, shape.order, shape.channels, shape.growth
    conv("features.conv0", c, 3, 7)
    norm("features.norm0", c)
    places = [(f"hg.down_blocks.{j}", c, "ahead skip") for j in range(shape.depth)]
    places += [(f"hg.up_blocks.{j}", 2 * c, "ahead") for j in range(shape.depth)]
    for place, width, sides in [*places, ("hg.neck_block", c, "ahead")]:
        for i in range(n):
            seen = width + min(i, k) * g
            norm(f"{place}.layers.{i}.norm1", seen)
            conv(f"{place}.layers.{i}.conv1", shape.bottleneck * g, seen)
            norm(f"{place}.layers.{i}.norm2", shape.bottleneck * g)
            conv(f"{place}.layers.{i}.conv2", g, shape.bottleneck * g, 3)
            for side in sides.split():
                norm(f"{place}.adapters_{side}.{i}.adapter_norm", seen + g)
                conv(f"{place}.adapters_{side}.{i}.adapter_conv", c, seen + g)
    for i in range(n):
        norm(f"linears.{i}.norm", c)
        conv(f"linears.{i}.conv", shape.landmarks, c)
    for i in range(1, n):
        norm(f"intermedia.adapters.{i - 1}.adapter_norm", c * (1 + min(i, k)))
        conv(f"intermedia.adapters.{i - 1}.adapter_conv", c, c * (1 + min(i, k)))
    return state


def older_spelling(state: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """The same tensors as the code before PyTorch 0.4 named them."""
    rules = (
        (r"(layers\.\d+)\.(norm|conv)1\.", r"\1.bottleneck.\2_"),
        (r"(layers\.\d+)\.(norm|conv)2\.", r"\1.\2.2."),
        (r"\.adapter_(norm|conv)\.", r".\1_"),
    )
    renamed = OrderedDict()
    for name, value in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def authors_stem(state: OrderedDict[str, Tensor], image: Tensor, beyond: float = 0.0) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1] to (B, C, H/4, W/4); ``beyond`` is what the image is surrounded with."""
    x = F.conv2d(F.pad(image, (3, 3, 3, 3), value=beyond), state["module.features.conv0.weight"], stride=2)
    return F.max_pool2d(F.relu(_norm(state, "features.norm0", x)), 2)


def authors_network(state: OrderedDict[str, Tensor], shape: Shape, x: Tensor) -> list[Tensor]:
    """(B, C, H, W) features of the stem to the heatmaps of every U-Net."""

    def layer(xs: list[Tensor], norm: str, conv: str) -> Tensor:
        weight = state[f"module.{conv}.weight"]
        return F.conv2d(F.relu(_norm(state, norm, torch.cat(xs, 1))), weight, padding=weight.shape[-1] // 2)

    history: dict[str, list[Tensor]] = {"intermedia": [x]}

    def seen(place: str) -> list[Tensor]:
        return history.get(place, [])[-shape.order :] if shape.order else []

    def block(place: str, i: int, xs: list[Tensor], sides: str = "ahead") -> list[Tensor]:
        xs = [*xs, *seen(place)]
        unit = f"{place}.layers.{i}"
        dense = layer([layer(xs, f"{unit}.norm1", f"{unit}.conv1")], f"{unit}.norm2", f"{unit}.conv2")
        history.setdefault(place, []).append(dense)
        adapters = [f"{place}.adapters_{side}.{i}.adapter" for side in sides.split()]
        return [layer([*xs, dense], f"{adapter}_norm", f"{adapter}_conv") for adapter in adapters]

    heatmaps = []
    for i in range(shape.unets):
        if i > 0:
            adapter = f"intermedia.adapters.{i - 1}.adapter"
            x = layer([x, *seen("intermedia")], f"{adapter}_norm", f"{adapter}_conv")
            history["intermedia"].append(x)
        skips = []
        for j in range(shape.depth):
            x, skip = block(f"hg.down_blocks.{j}", i, [x], "ahead skip")
            skips.append(skip)
            x = F.max_pool2d(x, 2)
        x = block("hg.neck_block", i, [x])[0]
        for j in reversed(range(shape.depth)):
            x = block(f"hg.up_blocks.{j}", i, [F.interpolate(x, scale_factor=2, mode="nearest"), skips[j]])[0]
        heatmaps.append(layer([x], f"linears.{i}.norm", f"linears.{i}.conv"))
    return heatmaps


def _norm(state: OrderedDict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, var, weight, bias = (
        state[f"module.{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, var, weight, bias)


def authors_table(state: OrderedDict[str, Tensor]) -> dict[str, Any]:
    """Checkpoint as the authors' code saves it: weights, the optimizer's state and the history of a face training."""
    addresses = [140_234_567_890_128 + 1024 * index for index in range(2)]
    averages = {address: {"step": 3_000_000, "square_avg": torch.ones(4)} for address in addresses}
    group = {"params": addresses, "lr": 2.5e-4, "alpha": 0.99, "centered": False, "weight_decay": 0}
    history = OrderedDict(
        epoch=[OrderedDict(epoch=300)],
        rmse=[OrderedDict(val_rmse=np.float64(0.034))],
        best_rmse=np.float64(0.034),
        is_best=np.bool_(True),
    )
    return {
        "train_history": history,
        "state_dict": state,
        "optimizer": {"state": averages, "param_groups": [group]},
    }


class Pickler:
    """Pickles of protocol 2 as Python 2's ``cPickle`` writes them: byte strings, and text for integers over 32 bits."""

    def __init__(self) -> None:
        self.code = bytearray(b"\x80\x02")
        self.storages: dict[str, Tensor] = {}
        self._memo: dict[object, int] = {}
        self._count = 0

    def dump(self, value: object) -> bytes:
        self._save(value)
        return bytes(self.code + b".")

    def _put(self, key: object = None) -> None:
        index, self._count = self._count, self._count + 1
        self.code += b"q" + bytes([index]) if index < 256 else b"r" + struct.pack("<I", index)
        if key is not None:
            self._memo[key] = index

    def _once(self, key: object, code: bytes) -> None:
        index = self._memo.get(key)
        if index is None:
            self.code += code
            self._put(key)
        else:
            self.code += b"h" + bytes([index]) if index < 256 else b"j" + struct.pack("<I", index)

    def _save(self, value: object) -> None:
        match value:
            case Raw(code):
                self.code += code
            case Name(module, name):
                self._once(value, f"c{module}\n{name}\n".encode())
            case Call():
                self._call(value)
            case Persistent(identity):
                self._save(identity)
                self.code += b"Q"
            case Tensor():
                self._call(self._rebuilt(value))
            case np.generic():
                self._call(_numpy_scalar(value))
            case None | bool():
                self.code += {None: b"N", True: b"\x88", False: b"\x89"}[value]
            case int():
                self.code += _integer(value)
            case float():
                self.code += b"G" + struct.pack(">d", value)
            case str() | bytes():
                text = value.encode() if isinstance(value, str) else value
                short = len(text) < 256
                self._once(text, (b"U" + bytes([len(text)]) if short else b"T" + struct.pack("<i", len(text))) + text)
            case OrderedDict():  # PyTorch 0.4 keeps the versions of the modules in an attribute
                items = [[key, item] for key, item in value.items()]
                self._call(Call(Name("collections", "OrderedDict"), (items,), vars(value) or None))
            case tuple():
                self._tuple(value)
            case list():
                self._container(b"]", value, b"e")
            case dict():
                self._container(b"}", [part for pair in value.items() for part in pair], b"u")
            case _:
                raise TypeError(f"{value!r}: the authors' files hold no such thing")

    def _container(self, empty: bytes, items: list[Any], fill: bytes) -> None:
        self.code += empty
        self._put()
        if items:
            self.code += b"("
            for item in items:
                self._save(item)
            self.code += fill

    def _tuple(self, value: tuple[object, ...]) -> None:
        short = 1 <= len(value) <= 3
        self.code += b"" if short or not value else b"("
        for item in value:
            self._save(item)
        self.code += bytes([0x84 + len(value)]) if short else b"t" if value else b")"
        if value:
            self._put()

    def _call(self, call: Call) -> None:
        self._save(call.name)
        self._tuple(call.arguments)
        self.code += b"R"
        self._put()
        if call.state is not None:
            self._save(call.state)
            self.code += b"b"

    def _rebuilt(self, value: Tensor) -> Call:
        key = str(94_000_000_000_000 + 64 * len(self.storages))
        self.storages[key] = value
        kind = Name("torch.cuda", {torch.float32: "FloatStorage", torch.int64: "LongStorage"}[value.dtype])
        storage = Persistent(("storage", kind, key, "cuda:0", value.numel(), None))
        hooks: OrderedDict[str, object] = OrderedDict()
        arguments = (storage, 0, tuple(value.shape), value.stride(), False, hooks)
        return Call(Name("torch._utils", "_rebuild_tensor_v2"), arguments)


def _integer(value: int) -> bytes:
    if 0 <= value < 1 << 8:
        return b"K" + bytes([value])
    if 0 <= value < 1 << 16:
        return b"M" + struct.pack("<H", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    if value < 1 << 63:
        return b"I%d\n" % value
    digits = value.to_bytes(value.bit_length() // 8 + 1, "little")  # a long: the magic number
    return b"\x8a" + bytes([len(digits)]) + digits


def _numpy_scalar(value: np.generic) -> Call:
    kind = Call(Name("numpy", "dtype"), (value.dtype.str[1:], 0, 1), (3, "<", None, None, None, -1, -1, 0))
    return Call(Name("numpy.core.multiarray", "scalar"), (kind, value.tobytes()))


def write_legacy(path: Path, table: object) -> Path:
    """A file as ``torch.save`` of PyTorch 0.4 writes it: five pickles, then the storages."""
    pickler = Pickler()
    content = pickler.dump(table)
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "type_sizes": sizes, "little_endian": True}
    parts = [Pickler().dump(part) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    parts += [content, Pickler().dump(sorted(pickler.storages))]
    for _, value in sorted(pickler.storages.items()):
        parts += [struct.pack("<q", value.numel()), value.numpy().tobytes()]
    path.write_bytes(b"".join(parts))
    return path
