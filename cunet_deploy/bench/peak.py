"""Peak multiplications per second of the processor, measured on one large matrix product.

The product runs in ONNX Runtime, on bytes and in float. That is a stand-in for the peak of the hardware, not the peak
itself: another library, or a size that suits it better, may be faster by some percent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cunet_deploy.onnx_graph.costs import Costs

__all__ = ["Peak", "Roofline", "matmul_model", "measure_peak", "roofline"]

SHAPE = (512, 1024, 1024)
"""Rows, sum and columns of the product: long enough to time, and so short that other work leaves some turns alone."""

_TURNS = (5, 200)  # at least, at most
_CALLS = 3  # of a turn that are timed
_SECONDS = 2.0
_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6  # ONNX element types


@dataclass(frozen=True)
class Peak:
    """Best rates of a processor with a number of threads.

    Attributes:
        threads: of ONNX Runtime.
        int8_gmac_per_second: unsigned bytes times signed bytes, summed in 32 bits.
        float_gmac_per_second: 32-bit floats.
    """

    threads: int
    int8_gmac_per_second: float
    float_gmac_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {key: round(value, 2) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Roofline:
    """Share of the processor's peak that a network reaches.

    Attributes:
        reached_gmac_per_second: what it did.
        fraction_of_peak: time that its multiplications take at the peak, those of integers at that of bytes and the
            others at that of floats, as a share of the time that it took.
    """

    reached_gmac_per_second: float
    fraction_of_peak: float

    def to_dict(self) -> dict[str, float]:
        """Plain values."""
        return {key: round(value, 4) for key, value in asdict(self).items()}


def measure_peak(threads: int, *, clock: Callable[[], float] = time.perf_counter) -> Peak:
    """Time the products in turns, and take the best of each.

    Args:
        threads: of ONNX Runtime.
        clock: seconds.
    """
    rows, depth, columns = SHAPE
    rng = np.random.default_rng(0)
    bytes_in, floats_in = rng.integers(0, 256, (rows, depth), np.uint8), rng.random((rows, depth), np.float32)
    # 63 at most: larger weights would be cut off on processors without VNNI, and are not any slower
    weights = rng.integers(-63, 64, (depth, columns)).astype(np.int8)
    work = rows * depth * columns / 1e9
    runs = [_product(matmul_model(weights, rows), bytes_in, threads)]
    runs.append(_product(matmul_model(weights.astype(np.float32), rows), floats_in, threads))
    best = [float("inf")] * 2
    end = clock() + _SECONDS * len(runs)
    least, most = _TURNS
    for turn in range(most):
        if turn >= least and clock() >= end:
            break
        for index, run in enumerate(runs):
            run()  # the other one has taken the caches
            for _ in range(_CALLS):
                start = clock()
                run()
                best[index] = min(best[index], clock() - start)
    return Peak(threads, *(work / seconds for seconds in best))


def roofline(costs: Costs, ms_per_crop: float, peak: Peak) -> Roofline | None:
    """Compare a network with the peak.

    Args:
        costs: of it.
        ms_per_crop: that the network took.
        peak: of as many threads as it had.

    Returns:
        The comparison; ``None`` where the multiplications are not all known, or no crop was run.
    """
    if costs.unknown or not costs.macs or ms_per_crop <= 0:
        return None
    integers, floats = costs.integer_macs / 1e9, (costs.macs - costs.integer_macs) / 1e9
    at_peak = integers / peak.int8_gmac_per_second + floats / peak.float_gmac_per_second
    seconds = ms_per_crop / 1000
    return Roofline(costs.macs / 1e9 / seconds, at_peak / seconds)


def _product(model: bytes, given: NDArray[Any], threads: int) -> Callable[[], object]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that wait for work would spin, and take the processors from the other product.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["y"], {"x": given})


def matmul_model(weights: NDArray[Any], rows: int) -> bytes:
    """An ONNX file of ``y = x @ weights``, written without the onnx package, which devices do not have.

    Args:
        weights: (K, N) int8 for uint8 ``x`` and int32 ``y``, or float32 for float32 ones.
        rows: of ``x``.
    """
    integers = weights.dtype == np.int8
    given, made = (_UINT8, _INT32) if integers else (_FLOAT, _FLOAT)
    operator = "MatMulInteger" if integers else "MatMul"
    depth, columns = weights.shape
    node = _field(1, b"x") + _field(1, b"w") + _field(2, b"y") + _field(4, operator.encode())
    data = np.ascontiguousarray(weights, weights.dtype.newbyteorder("<")).tobytes()
    stored = _numbers(1, (depth, columns)) + _number(2, _INT8 if integers else _FLOAT) + _field(8, b"w")
    graph = _field(1, node) + _field(2, b"product") + _field(5, stored + _field(9, data))
    graph += _field(11, _value(b"x", given, (rows, depth))) + _field(12, _value(b"y", made, (rows, columns)))
    return _number(1, 8) + _field(7, graph) + _field(8, _number(2, 13))  # IR version 8, operator set 13


def _value(name: bytes, kind: int, shape: Iterable[int]) -> bytes:
    sizes = b"".join(_field(1, _number(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _number(1, kind) + _field(2, sizes)))


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _number(tag: int, value: int) -> bytes:
    """A protobuf field that holds an integer."""
    return _varint(tag << 3) + _varint(value)


def _numbers(tag: int, values: Iterable[int]) -> bytes:
    return b"".join(_number(tag, value) for value in values)


def _field(tag: int, content: bytes) -> bytes:
    """A protobuf field that holds bytes, a text or a message."""
    return _varint(tag << 3 | 2) + _varint(len(content)) + content
