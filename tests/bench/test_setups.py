from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from clocks import Clock
from numpy.typing import NDArray

from cunet_deploy import zoo
from cunet_deploy.bench import memory, peak
from cunet_deploy.bench.latency import Scene
from cunet_deploy.bench.memory import Memory, measure_memory, parse_status, watch_memory
from cunet_deploy.bench.peak import Peak, matmul_model, measure_peak, roofline
from cunet_deploy.bench.setups import Input, Setup, combine
from cunet_deploy.errors import InputError
from cunet_deploy.onnx_graph.costs import Costs, Product, read_costs

MODEL = zoo.DEFAULT_MODEL
STATUS = "Name:\tpython\nVmPeak:\t 900 kB\nVmHWM:\t  300 kB\nVmRSS:\t  200 kB\n"


def as_named(model: str, backend: str | None, threads: int) -> str | None:
    return backend


def test_every_combination_comes_in_the_order_of_its_options() -> None:
    found = combine([MODEL], ["openvino", None], [2, 1], [1, 8], resolve=as_named)
    named = [(setup.backend, setup.threads, setup.batch) for setup in found]
    assert named == [(name, count, size) for name in ("openvino", "ort:cpu") for count in (2, 1) for size in (1, 8)]


def test_what_auto_takes_is_not_measured_twice_but_a_model_named_twice_is() -> None:
    def resolve(model: str, backend: str | None, threads: int) -> str | None:
        return {"auto": "openvino" if threads == 1 else "ort:cpu"}.get(backend or "", backend)

    found = combine([MODEL, MODEL], ["auto", "ort:cpu"], [1, 2], [1], resolve=resolve)
    once = [("openvino", 1), ("ort:cpu", 2), ("ort:cpu", 1)]
    assert [(setup.backend, setup.threads) for setup in found] == once * 2


def test_a_detector_or_a_batch_without_what_it_needs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give an input"):
        Input(None, "boxes:x.csv").work()
    with pytest.raises(InputError, match="a batch size, or an input"):
        Input(str(tmp_path)).work(2)


def product(macs: int | None, *, on_integers: bool) -> Product:
    return Product("p", macs, 8, 8, on_integers, {8: 10})


def test_the_fraction_of_the_peak_counts_bytes_and_floats_each_at_their_own_peak() -> None:
    costs = Costs((product(2_000_000, on_integers=True), product(1_000_000, on_integers=False)), {})
    found = roofline(costs, 10, Peak(1, 2, 0.5))  # at the peak 1 ms and 2 ms
    assert found is not None
    assert found.fraction_of_peak == pytest.approx(0.3)
    assert found.reached_gmac_per_second == pytest.approx(0.3)


@pytest.mark.parametrize(("macs", "ms"), [(None, 10), (0, 10), (1000, 0)])
def test_nothing_is_claimed_of_a_network_whose_work_or_time_is_not_known(macs: int | None, ms: float) -> None:
    assert roofline(Costs((product(macs, on_integers=True),), {}), ms, Peak(1, 2, 1)) is None


@pytest.mark.parametrize("kind", [np.int8, np.float32])
def test_the_product_is_a_valid_model_that_multiplies(kind: type[np.generic]) -> None:
    weights = np.arange(-10, 10).reshape(4, 5).astype(kind)
    model = matmul_model(weights, 300)  # a size that takes two bytes in the file
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    given = np.arange(1200).reshape(300, 4) % 250
    given = given.astype(np.uint8 if kind is np.int8 else np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(["y"], {"x": given})
    assert np.array_equal(found, given.astype(np.int64) @ weights.astype(np.int64))


def test_the_peak_is_the_best_of_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seconds = Clock(), {"uint8": 0.02, "float32": 0.1}
    taken = dict.fromkeys(seconds, 0)

    def product_of(model: bytes, given: NDArray[np.generic], threads: int) -> object:
        kind = given.dtype.name

        def run() -> None:
            taken[kind] += 1
            clock.now += seconds[kind] * (1 if taken[kind] == 7 else 2)

        return run

    monkeypatch.setattr(peak, "_product", product_of)
    found = measure_peak(3, clock=clock)
    work = np.prod(peak.SHAPE) / 1e9
    assert found.threads == 3
    assert found.int8_gmac_per_second == pytest.approx(work / 0.02)
    assert found.float_gmac_per_second == pytest.approx(work / 0.1)
    assert taken["uint8"] == taken["float32"] >= 20


def test_costs_are_counted_from_the_graph_with_packed_weights_at_their_bits() -> None:
    found = read_costs(zoo.find_model(MODEL))
    assert found.unknown == 0
    stem = found.products[0]
    assert (stem.macs, stem.weight_bits, stem.input_bits) == (64 * 64 * 32 * 3 * 3 * 3, 8, 8)
    assert stem.activation_bytes_by_bits == {8: 3 * 128 * 128 + 32 * 64 * 64}
    assert stem.on_integers
    binary = read_costs(zoo.find_model("face68-s-binary"))
    assert binary.macs == found.macs
    table = binary.to_dict()
    assert sum(table["macs_by_weight_x_activation_bits"].values()) == found.macs
    assert table["macs_by_weight_x_activation_bits"]["1x8"] > 0.5 * found.macs
    weights, plain = table["weight_bytes_by_bits"], found.weight_bytes_by_bits["8"]
    assert 8 * weights["1"] + weights["8"] == pytest.approx(plain, rel=0.01)


def graph_of(node: onnx.NodeProto, weights: list[int], given: list[str | int], made: list[str | int]) -> bytes:
    helper = onnx.helper
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 1, given)],
        [helper.make_tensor_value_info("y", 1, made)],
        [onnx.numpy_helper.from_array(np.ones(weights, np.float32), "w")],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


@pytest.mark.parametrize(
    ("operator", "attributes", "weights", "given", "made", "macs"),
    [
        pytest.param("Conv", {"group": 4}, [8, 1, 3, 3], ["n", 4, 6, 6], ["n", 8, 4, 4], 16 * 8 * 9, id="groups"),
        pytest.param(
            "ConvTranspose",
            {"strides": [2, 2]},
            [4, 8, 2, 2],
            ["n", 4, 5, 5],
            ["n", 8, 10, 10],
            25 * 4 * 8 * 4,
            id="up",
        ),
        pytest.param("Gemm", {}, [7, 5], ["n", 7], ["n", 5], 35, id="matrix"),
        pytest.param("Conv", {}, [8, 4, 1, 1], ["n", 4, "h", "w"], ["n", 8, "h", "w"], None, id="free size"),
    ],
)
def test_each_kind_of_product_is_counted(
    operator: str, attributes: dict[str, Any], weights: list[int], given: list[str | int], made: list[str | int],
    macs: int | None,
) -> None:  # fmt: skip
    node = onnx.helper.make_node(operator, ["x", "w"], ["y"], **attributes)
    costs = read_costs(graph_of(node, weights, given, made))
    (found,) = costs.products
    assert found.macs == macs
    assert costs.unknown == (macs is None)
    assert (found.weight_bits, found.input_bits, found.on_integers) == (32, 32, False)


def test_memory_is_read_from_what_linux_tells() -> None:
    assert parse_status(STATUS) == (200 * 1024, 300 * 1024)
    assert parse_status("Name:\tpython\n") is None


def test_memory_is_looked_at_before_and_after_loading_and_in_the_second_half_of_the_calls() -> None:
    looks = iter([(10, 12), (50, 60), *((size, 999) for size in (300, 200, 70, 80, 90, 75))])
    work = Scene.centred(np.zeros((60, 80, 3), np.uint8))
    found = watch_memory(Setup(MODEL, "ort:cpu"), work, 6, resident=lambda: next(looks))
    assert found == Memory(10, 50, 80, 999)
    assert next(looks, None) is None


def test_a_system_that_tells_only_the_peak_leaves_the_rest_out() -> None:
    work = Scene.centred(np.zeros((60, 80, 3), np.uint8))
    found = watch_memory(Setup(MODEL, "ort:cpu"), work, 2, resident=lambda: (None, 7))
    assert isinstance(found, Memory)
    assert found.to_dict() == {"rss_peak_bytes": 7}
    assert isinstance(watch_memory(Setup(MODEL, "ort:cpu"), work, 2, resident=lambda: None), str)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_fresh_process_measures_the_memory_of_a_model() -> None:
    found = measure_memory(Setup(MODEL, "ort:cpu"), Input())
    assert isinstance(found, Memory)
    assert found.rss_before_bytes is not None
    assert found.rss_loaded_bytes is not None
    assert 10e6 < found.rss_before_bytes < found.rss_loaded_bytes <= found.rss_peak_bytes < 2e9


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_memory_of_a_detector_is_not_taken_for_that_of_the_interpreter(astronaut: Path) -> None:
    plain, whole = (
        measure_memory(Setup(MODEL, "ort:cpu"), Input(source, "face-detect-s" if source else None))
        for source in (None, str(astronaut))
    )
    assert isinstance(plain, Memory)
    assert isinstance(whole, Memory)
    assert plain.rss_before_bytes is not None
    assert whole.rss_before_bytes is not None
    assert whole.rss_loaded_bytes is not None
    assert whole.rss_before_bytes < plain.rss_before_bytes + 12e6  # the photo, no runtime
    assert whole.rss_before_bytes + 5e6 < whole.rss_loaded_bytes


def test_a_process_that_fails_or_answers_nonsense_is_one_line(tmp_path: Path) -> None:
    found = measure_memory(Setup(MODEL, "no such"), Input())
    assert isinstance(found, str)
    assert "unknown backend 'no such'" in found
    assert "cannot run" in str(measure_memory(Setup(MODEL, "ort:cpu"), Input(), python=str(tmp_path / "python")))
    fake = tmp_path / "fake"
    fake.write_text(f"#!/bin/sh\ncat > {tmp_path / 'task.json'}\necho nonsense\n")
    fake.chmod(0o755)
    assert "answered something else" in str(measure_memory(Setup(MODEL, "ort:cpu"), Input(), python=str(fake)))
    task = json.loads((tmp_path / "task.json").read_text())
    assert Setup(**task["setup"]) == Setup(MODEL, "ort:cpu")
    assert task["calls"] == memory._CALLS
