"""OpenVINO behind the `Session` protocol, against ONNX Runtime and exact integer arithmetic."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from dots import DOTS, manifest, scene, write_model
from networks import float_network, quantized
from openvino_here import needs_openvino

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import TorchSession
from cunet_deploy.cli import cli, verify
from cunet_deploy.config import QuantConfig
from cunet_deploy.errors import ArtifactError, CunetError, InputError, MissingDependencyError
from cunet_deploy.export.crops import drawn_crops
from cunet_deploy.export.targets.cpu import write_model as write_network
from cunet_deploy.machine.cpu import cpu_features, may_saturate, read_cpuinfo
from cunet_deploy.sessions import BACKENDS, open_session, openvino
from cunet_deploy.sessions.base import Session
from cunet_deploy.sessions.openvino import OpenVINOSession

ROOT = Path(__file__).resolve().parents[2]
RELEASED = ROOT / "models" / "face68-s"
MIXED = QuantConfig(layers={"down.*": "1", "up.0.*": "ternary", "up.1.*": "4", "stem.*": "3"})


@pytest.fixture(scope="module")
def dots(dots_model: Path) -> Iterator[Session]:
    session = open_session(dots_model, threads=1, backend="openvino")
    yield session
    session.close()


def noise(count: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


@needs_openvino
def test_a_session_knows_its_manifest_and_what_runs_it(dots: Session) -> None:
    assert dots.manifest.skeleton == DOTS
    assert re.fullmatch(r"openvino \d+\.\d+\.\d+ CPU", dots.backend)


@needs_openvino
def test_a_float_network_is_computed_in_float32(dots: Session, dots_model: Path) -> None:
    crops = np.stack([scene(size=(64, 64), center=(32, 32), half=20)[0], *noise(2)])
    # bfloat16, which the processor may have, is off by 1e-3 and more
    np.testing.assert_allclose(dots.run(crops), open_session(dots_model, threads=1).run(crops), atol=1e-5)


@needs_openvino
def test_batches_give_what_single_crops_give_and_no_crop_gives_nothing(dots: Session) -> None:
    crops = noise(5)
    singles = np.concatenate([dots.run(crops[index : index + 1]) for index in range(5)])
    for count in (5, 2, 3):
        np.testing.assert_array_equal(dots.run(crops[:count]), singles[:count])
    assert dots.run(crops[:0]).shape == (0, 5, 16, 16)


@needs_openvino
@pytest.mark.parametrize("count", [1, 2])
def test_a_result_stays_what_it_was_when_the_session_runs_again(dots: Session, count: int) -> None:
    crops = noise(2 * count)
    first = dots.run(crops[:count])
    before = first.copy()
    dots.run(crops[count:])
    np.testing.assert_array_equal(first, before)


@needs_openvino
def test_crops_may_be_read_only_or_any_slice_of_an_array(dots: Session) -> None:
    crops = noise(4)
    expected = dots.run(crops)
    crops.flags.writeable = False
    np.testing.assert_array_equal(dots.run(crops), expected)
    mirrored = np.ascontiguousarray(crops[:, :, ::-1])
    np.testing.assert_array_equal(dots.run(crops[:, :, ::-1]), dots.run(mirrored))
    np.testing.assert_array_equal(dots.run(crops[1:3]), expected[1:3])


@needs_openvino
def test_several_threads_may_use_one_session(dots: Session) -> None:
    crops = noise(8)
    expected = [dots.run(crops[index : index + 1]) for index in range(8)]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(20):
            if not np.array_equal(dots.run(crops[index : index + 1]), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_openvino
@pytest.mark.parametrize("images", [np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32)])
def test_crops_of_another_form_are_refused(dots: Session, images: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"\(B, 64, 64, 3\) uint8 expected"):
        dots.run(images)


@needs_openvino
def test_a_closed_session_says_so(dots_model: Path) -> None:
    session = open_session(dots_model, threads=1, backend="openvino")
    session.close()
    session.close()
    with pytest.raises(CunetError, match="closed"):
        session.run(noise(1))


@needs_openvino
def test_files_that_are_no_model_are_refused_in_one_line(dots_model: Path, tmp_path: Path) -> None:
    data = dots_model.read_bytes()
    for name, content in {"half": data[: len(data) // 2], "text": b"not a network\n" * 50}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(
            ArtifactError, match=rf"{name}\.onnx: OpenVINO \S+ cannot load it \([^\n]+\); it is cut off"
        ):
            open_session(path, backend="openvino")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(InputError, match="is empty"):
        open_session(tmp_path / "empty.onnx", backend="openvino")
    plain = write_model(tmp_path / "plain.onnx", metadata=False)
    with pytest.raises(ArtifactError, match="carries no cunet-deploy manifest"):
        open_session(plain, backend="openvino")


@needs_openvino
def test_a_graph_that_is_not_what_its_manifest_says_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    model.metadata_props[0].value = manifest(stride=2).to_json()
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="its manifest says"):
        open_session(path, backend="openvino")


@needs_openvino
@pytest.mark.parametrize(
    ("network", "quant"),
    [
        pytest.param("pre", QuantConfig(), id="pre, 8 bits"),
        pytest.param("post", QuantConfig(), id="post, 8 bits"),
        pytest.param("pre", MIXED, id="pre, packed 1 to 4 bits"),
        pytest.param("post", QuantConfig(weight_bits=1, activation_bits=4, edge_bits=4), id="post, packed, clipped"),
        pytest.param("refined pre", QuantConfig(weight_bits=1), id="refined pre, binary"),
        pytest.param("refined post", QuantConfig(weight_bits=2, ternary=True), id="refined post, ternary"),
    ],
)
def test_integers_of_every_width_come_out_as_exact_arithmetic_says(
    network: str, quant: QuantConfig, tmp_path: Path
) -> None:
    """OpenVINO rounds about one value in a million to the other side of a half, and others follow from that one.

    In networks as small as these none is, or few.
    """
    checkpoint = quantized(network, quant)
    path = tmp_path / "model.onnx"
    path.write_bytes(write_network(checkpoint))
    crops = drawn_crops(make_manifest(checkpoint), 3)
    expected = TorchSession(checkpoint).run(crops)
    assert expected.any()
    session = OpenVINOSession(path, threads=1)
    step = np.unique(expected)[1:].min()
    assert (np.abs(session.run(crops) - expected) > step / 2).mean() < 0.01
    if platform.machine() in ("x86_64", "AMD64") and not may_saturate(cpu_features(read_cpuinfo())):
        assert set(_types_of_convolutions(session)) == {"u8"}  # elsewhere it may choose float


def _types_of_convolutions(session: OpenVINOSession) -> list[str]:
    """Types of what each convolution really takes in, the first one included."""
    graph = session._request.get_compiled_model().get_runtime_model()
    told = [operation.get_rt_info() for operation in graph.get_ops()]
    return [
        str(info["runtimePrecision"].astype(str)) for info in told if info["layerType"].astype(str) == "Convolution"
    ]


@needs_openvino
def test_where_sums_may_be_cut_off_convolutions_are_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "may_saturate", lambda features: True)
    found = {}
    for name, quant in {"8 bits": QuantConfig(), "reduced": QuantConfig(weight_bits=7, edge_bits=7)}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(write_network(quantized("post", quant)))
        found[name] = set(_types_of_convolutions(OpenVINOSession(path, threads=1)))
    assert found["8 bits"] == {"f32"}
    assert "u8" in found["reduced"]


@needs_openvino
def test_on_arm_convolutions_are_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "is_x86", lambda: False)
    path = tmp_path / "model.onnx"
    path.write_bytes(write_network(quantized("post", QuantConfig())))
    assert set(_types_of_convolutions(OpenVINOSession(path, threads=1))) == {"f32"}


@needs_openvino
def test_float_networks_agree_with_onnx_runtime(tmp_path: Path) -> None:
    checkpoint = float_network("refined post")
    path = tmp_path / "model.onnx"
    path.write_bytes(write_network(checkpoint))
    crops = drawn_crops(make_manifest(checkpoint), 1)
    ours, theirs = (open_session(path, threads=1, backend=name).run(crops) for name in ("openvino", "ort:cpu"))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@needs_openvino
def test_the_released_model_passes_verify_and_names_what_ran_it(tmp_path: Path) -> None:
    arguments = ["verify", str(RELEASED), "--backend", "openvino", "--threads", "1", "--json", str(tmp_path / "r.json")]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "r.json").read_text())["backend"].startswith("openvino")
    assert verify._advice(["runtime / export"], BACKENDS["openvino"], lowered=False).startswith("OpenVINO rounds")


@needs_openvino
def test_every_command_that_runs_a_network_takes_it(dots_model: Path, tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "picture.png"), scene()[0])
    model = ["--backend", "openvino"]
    bench = CliRunner().invoke(cli, ["bench", str(dots_model), *model, "--rounds", "1", "--calls", "1"])
    assert bench.exit_code == 0, bench.output
    assert "openvino" in bench.stdout
    arguments = ["infer", str(tmp_path / "picture.png"), "--model", str(dots_model), "-o", str(tmp_path / "out.jsonl")]
    infer = CliRunner().invoke(cli, [*arguments, *model])
    assert infer.exit_code == 0, infer.output
    assert '"landmarks"' in (tmp_path / "out.jsonl").read_text()


@needs_openvino
def test_importing_it_reports_nothing_and_leaves_no_trace(tmp_path: Path) -> None:
    code = (
        "import sys, threading\n"
        "from cunet_deploy.sessions.openvino import openvino_core\n"
        "openvino_core()\n"
        "print('openvino_telemetry' in sys.modules, threading.active_count())"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("CI", None)  # where this is set, OpenVINO stays quiet by itself
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    assert result.stdout.split() == ["False", "1"]
    assert not list(tmp_path.iterdir())


@needs_openvino
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no such signals")
def test_signals_are_handled_after_sessions_were_closed_in_any_order(dots_model: Path) -> None:
    code = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from cunet_deploy.sessions.openvino import OpenVINOSession\n"
        "first, second = (OpenVINOSession(Path(sys.argv[1]), threads=1) for _ in range(2))\n"
        "first.close()\n"
        "second.close()\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'))\n"
        "signal.raise_signal(signal.SIGUSR1)"
    )
    line = [sys.executable, "-c", code, str(dots_model)]
    result = subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout == "handled\n"


def test_without_it_the_error_is_the_install_line(dots_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'cunet-deploy\[openvino\]'"):
        open_session(dots_model, backend="openvino")
    result = CliRunner().invoke(cli, ["bench", str(dots_model), "--backend", "openvino"])
    assert result.exit_code == 5
    assert result.stderr.count("\n") == 1


def test_it_runs_no_engines(tmp_path: Path) -> None:
    (tmp_path / "model.engine").touch()
    with pytest.raises(InputError, match=r"is an engine, and openvino runs \.onnx files"):
        open_session(tmp_path / "model.engine", backend="openvino")


def test_no_other_module_imports_it() -> None:
    pattern = re.compile(r"(?:import|require\(\"|import_module\(\")\s*openvino\b")
    importing = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "cunet_deploy").rglob("*.py"))
        if pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert importing == ["cunet_deploy/sessions/openvino.py"]
