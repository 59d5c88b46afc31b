"""Engines, run by a TensorRT and a GPU that are fakes computing with ONNX Runtime: see `fake_tensorrt`."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from dots import box, scene
from fake_tensorrt import FakeCuda, make_module

from cunet_deploy import Localizer
from cunet_deploy.cli import cli
from cunet_deploy.errors import ArtifactError, CunetError, InputError, UntrustedError
from cunet_deploy.sessions import open_session
from cunet_deploy.tensorrt import cuda as cuda_library
from cunet_deploy.tensorrt import log as trt_logger
from cunet_deploy.tensorrt import session as sessions
from cunet_deploy.tensorrt.sidecar import PORTABLE, sidecar_path

Make = Callable[..., Path]


def crops(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), np.uint8)


def _code_and_line(engine: Path, *options: str) -> tuple[int, str]:
    """Exit code and error of running an engine on the command line."""
    picture = engine.with_name("picture.png")
    if not picture.exists():
        import cv2

        cv2.imwrite(str(picture), scene()[0])
    result = CliRunner().invoke(
        cli, ["infer", str(picture), "--model", str(engine), "-o", str(engine.with_name("out.jsonl")), *options]
    )
    assert result.stderr.count("\n") == (result.exit_code != 0), result.stderr
    return result.exit_code, result.stderr


@pytest.mark.parametrize("count", [1, 2, 4, 5, 11])
@pytest.mark.parametrize("graph", [False, True], ids=["queued", "graph"])
def test_heatmaps_are_those_of_onnx_runtime_for_any_batch(
    cuda: FakeCuda, make_engine: Make, dots_model: Path, count: int, graph: bool
) -> None:
    session = open_session(make_engine(), backend="tensorrt:graph" if graph else None)
    expected = open_session(dots_model, threads=1).run(crops(count))
    for _ in range(3):
        np.testing.assert_array_equal(session.run(crops(count)), expected)


def test_results_stay_as_they_were_when_the_next_frame_runs(cuda: FakeCuda, make_engine: Make) -> None:
    session = open_session(make_engine())
    first = session.run(crops(2))
    kept = first.copy()
    session.run(np.bitwise_not(crops(2)))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_an_engine_with_a_fixed_batch_runs_any_number(
    cuda: FakeCuda, make_engine: Make, dots_model: Path, count: int
) -> None:
    session = open_session(make_engine(batches=3))
    np.testing.assert_array_equal(session.run(crops(count)), open_session(dots_model, threads=1).run(crops(count)))
    assert not [call for call in cuda.calls if call.startswith("set_input_shape")]


def test_fewer_crops_than_the_profile_allows_are_filled_up(cuda: FakeCuda, make_engine: Make, dots_model: Path) -> None:
    session = open_session(make_engine(batches=(2, 2, 4)))
    np.testing.assert_array_equal(session.run(crops(1)), open_session(dots_model, threads=1).run(crops(1)))
    assert "set_input_shape 2" in cuda.calls


def test_half_precision_heatmaps_come_as_float32(cuda: FakeCuda, make_engine: Make, dots_model: Path) -> None:
    maps = open_session(make_engine(type="HALF")).run(crops(2))
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, open_session(dots_model, threads=1).run(crops(2)), atol=1e-3)


def test_nothing_is_allocated_after_opening(cuda: FakeCuda, make_engine: Make) -> None:
    session = open_session(make_engine())
    assert sorted(cuda.calls[:4]) == ["allocate", "allocate", "pinned", "pinned"]
    assert [array.nbytes for array in cuda.memory.values()] == [4 * 64 * 64 * 3, 4 * 5 * 16 * 16 * 4]
    opened = len(cuda.calls)
    session.run(crops(4))
    session.run(crops(4))
    frame = ["upload", "execute_async_v3", "download", "synchronize"]
    assert cuda.calls[opened:] == ["set_input_shape 4", *frame, *frame]


def test_a_graph_is_recorded_once_for_a_batch_size_and_then_replayed(cuda: FakeCuda, make_engine: Make) -> None:
    session = open_session(make_engine(), backend="tensorrt:graph")
    assert session.backend.endswith("CUDA graph")
    for count in (2, 2, 2, 3, 3):
        session.run(crops(count))
    interesting = [call for call in cuda.calls if call in ("record", "replay") or call.startswith("set_input_shape")]
    assert interesting == ["set_input_shape 2", "record", "replay", "replay", "set_input_shape 3", "record", "replay"]


def test_a_localizer_runs_an_engine_like_any_other_model(cuda: FakeCuda, make_engine: Make, dots_model: Path) -> None:
    image, points = scene()
    with Localizer(make_engine()) as localizer:
        found = localizer.predict(image, box())
        assert localizer.backend == "tensorrt 10.3.0 SM87, fake 1.0"
    np.testing.assert_allclose(found.points[0], points, atol=1)
    np.testing.assert_array_equal(found.points, Localizer(dots_model, threads=1).predict(image, box()).points)
    assert cuda.calls[-1] == "close"


def test_several_threads_share_a_session(cuda: FakeCuda, make_engine: Make, dots_model: Path) -> None:
    session, reference = open_session(make_engine()), open_session(dots_model, threads=1)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda count: session.run(crops(count)), range(1, 9)))
    for count, maps in zip(range(1, 9), results, strict=True):
        np.testing.assert_array_equal(maps, reference.run(crops(count)))


def test_closing_releases_everything_and_twice_is_fine(cuda: FakeCuda, make_engine: Make) -> None:
    session = open_session(make_engine())
    session.close()
    session.close()
    assert cuda.calls.count("close") == 1
    with pytest.raises(CunetError, match="closed"):
        session.run(crops(1))


@pytest.mark.parametrize("images", [np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32)])
def test_crops_of_another_form_are_refused(cuda: FakeCuda, make_engine: Make, images: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"\(B, 64, 64, 3\) uint8 expected"):
        open_session(make_engine()).run(images)


def test_a_changed_engine_is_refused_before_tensorrt_sees_it(cuda: FakeCuda, make_engine: Make) -> None:
    engine = make_engine()
    engine.write_bytes(engine.read_bytes() + b" ")
    code, line = _code_and_line(engine)
    assert (code, cuda.calls) == (6, [])
    assert "checksum" in line
    assert "--trust" in line


def test_a_truncated_engine_is_refused_and_with_trust_does_not_load(cuda: FakeCuda, make_engine: Make) -> None:
    engine = make_engine()
    engine.write_bytes(engine.read_bytes()[:100])
    assert _code_and_line(engine)[0] == 6
    with pytest.raises(ArtifactError, match=r"tensorrt 10\.3\.0 cannot load it \(Serialization .* not match\); build"):
        open_session(engine, trust=True)
    assert cuda.calls == ["close"]


def test_a_changed_engine_that_is_trusted_runs_with_a_warning(
    cuda: FakeCuda, make_engine: Make, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    engine.write_bytes(engine.read_bytes() + b" ")
    assert open_session(engine, trust=True).run(crops(1)).shape == (1, 5, 16, 16)
    assert "because you trust it" in caplog.text


def test_an_engine_without_description_is_refused_and_trust_does_not_help(cuda: FakeCuda, make_engine: Make) -> None:
    engine = make_engine()
    sidecar_path(engine).unlink()
    assert _code_and_line(engine)[0] == 6
    code, line = _code_and_line(engine, "--trust")
    assert code == 3
    assert "dots.engine.json is not beside it" in line


def test_a_description_without_its_engine_says_that_the_engine_is_missing(cuda: FakeCuda, make_engine: Make) -> None:
    engine = make_engine()
    engine.unlink()
    code, line = _code_and_line(engine)
    assert code == 2
    assert "dots.engine: does not exist" in line


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', "\0"])
def test_a_damaged_description_is_an_error(cuda: FakeCuda, make_engine: Make, text: str) -> None:
    engine = make_engine()
    sidecar_path(engine).write_text(text)
    assert _code_and_line(engine)[0] == 3


@pytest.mark.parametrize(
    ("changes", "reason", "line"),
    [
        ({"version": "10.13.0.35"}, "another version", "cunet-deploy build BUNDLE --flavour tensorrt"),
        ({"flavour": "tensorrt_rtx"}, "another flavour", "cunet-deploy build BUNDLE --flavour tensorrt"),
        ({"compute_capabilities": (86,)}, "the GPU here is SM87", "cunet-deploy build BUNDLE --flavour tensorrt"),
        (
            {"compute_capabilities": (89,), "flags": (PORTABLE,)},
            "the GPU here is SM87",
            "cunet-deploy build BUNDLE --flavour tensorrt",
        ),
    ],
    ids=["version", "flavour", "gpu", "older gpu"],
)
def test_an_engine_for_another_machine_names_the_build_line(
    cuda: FakeCuda, make_engine: Make, changes: dict[str, Any], reason: str, line: str
) -> None:
    code, message = _code_and_line(make_engine(**changes))
    assert code == 3
    assert reason in message
    assert line in message
    assert "allocate" not in cuda.calls


@pytest.mark.parametrize("place", [".", "dots"], ids=["folder", "name"])
def test_the_build_line_names_the_bundle_that_lies_there(
    cuda: FakeCuda, make_engine: Make, dots_model: Path, place: str
) -> None:
    engine = make_engine(version="10.13.0.35")
    bundle = engine.parent / place
    bundle.mkdir(exist_ok=True)
    shutil.copy(dots_model, bundle / "model.tensorrt.onnx")
    assert f"cunet-deploy build {bundle} --flavour tensorrt" in _code_and_line(engine)[1]
    engine.write_bytes(engine.read_bytes()[:-1])
    assert f"cunet-deploy build {bundle}, or trust it" in _code_and_line(engine)[1]


def test_the_builder_and_the_runner_share_one_logger(cuda: FakeCuda, make_engine: Make) -> None:
    given = []
    runtime = sys.modules["tensorrt"].Runtime

    def remember(logger: Any) -> Any:
        given.append(logger)
        return runtime(logger)

    vars(sys.modules["tensorrt"])["Runtime"] = remember
    open_session(make_engine())
    assert given == [trt_logger.get_logger(sys.modules["tensorrt"])]


def test_a_portable_engine_runs_on_a_later_gpu(cuda: FakeCuda, make_engine: Make) -> None:
    assert open_session(make_engine(compute_capabilities=(80,), flags=(PORTABLE,))).run(crops(1)).shape == (
        1,
        5,
        16,
        16,
    )


def test_without_any_tensorrt_the_install_line_is_given(
    cuda: FakeCuda, make_engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    code, line = _code_and_line(make_engine())
    assert code == 5
    assert "pip install 'cunet-deploy[tensorrt]'" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [-1, 5, 8, 8]},
        {"type": "INT8"},
        {"extra": [{"name": "mask", "mode": "OUTPUT", "type": "FLOAT", "shape": [-1]}]},
    ],
    ids=["shape", "type", "another tensor"],
)
def test_an_engine_that_is_not_what_its_description_says_is_an_error(
    cuda: FakeCuda, make_engine: Make, changes: dict[str, Any]
) -> None:
    with pytest.raises(ArtifactError, match="not what its description says"):
        open_session(make_engine(**changes))
    assert cuda.calls == ["close"]


def test_a_context_that_cannot_be_made_is_an_error(cuda: FakeCuda, make_engine: Make) -> None:
    with pytest.raises(CunetError, match="execution context"):
        open_session(make_engine(no_context=True))
    assert cuda.calls[-1] == "close"


def test_a_failing_run_says_what_tensorrt_said_in_one_line(cuda: FakeCuda, make_engine: Make) -> None:
    with pytest.raises(CunetError, match=r"failed on 1 crops \(enqueueV3: an illegal memory access\)"):
        open_session(make_engine(fails=True)).run(crops(1))


def test_code_for_the_host_is_never_allowed() -> None:
    assert "engine_host_code_allowed" not in Path(sessions.__file__).read_text(encoding="utf-8")


def test_an_engine_does_not_run_in_onnx_runtime_nor_a_model_in_tensorrt(
    cuda: FakeCuda, make_engine: Make, dots_model: Path
) -> None:
    with pytest.raises(InputError, match=r"ort:cpu runs \.onnx files"):
        open_session(make_engine(), backend="ort:cpu")
    with pytest.raises(InputError, match=r"tensorrt runs \.engine files; build one: cunet-deploy build"):
        open_session(dots_model, backend="tensorrt")
    with pytest.raises(InputError, match="unknown backend 'gpu'; choose from ort:cpu,"):
        open_session(dots_model, backend="gpu")


def test_an_engine_on_a_machine_without_gpu_is_one_line(make_engine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", make_module(FakeCuda()))
    engine = make_engine()

    def no_driver(graphs: bool = False) -> None:
        raise ArtifactError(cuda_library.NO_GPU.format(reason="libcuda.so.1 is missing"))

    monkeypatch.setattr(cuda_library, "open_cuda", no_driver)
    code, line = _code_and_line(engine)
    assert code == 3
    assert "no NVIDIA GPU or driver" in line


def test_the_description_is_what_the_builder_writes(make_engine: Make) -> None:
    table = json.loads(sidecar_path(make_engine()).read_text())
    assert {"manifest", "engine_sha256", "flavour", "version", "compute_capabilities", "profiles"} <= set(table)


def test_a_refused_checksum_is_an_untrusted_error(cuda: FakeCuda, make_engine: Make) -> None:
    engine = make_engine(engine_sha256="0" * 64)
    with pytest.raises(UntrustedError):
        open_session(engine)


def test_the_real_library_refuses_what_is_no_engine_in_one_line(
    cuda: FakeCuda, make_engine: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tensorrt_rtx")
    try:
        version = str(importlib.import_module("tensorrt_rtx").__version__)
    except ImportError:
        reason = "tensorrt_rtx is not installed: pip install 'cunet-deploy[tensorrt-rtx]'"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    engine = make_engine(flavour="tensorrt_rtx", version=version)
    with pytest.raises(ArtifactError, match=rf"tensorrt_rtx {version} cannot load it \(\S.*\); build it"):
        open_session(engine)
    assert cuda.calls == ["close"]
