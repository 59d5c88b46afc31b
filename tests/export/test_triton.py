"""``export --target triton``: a model repository whose texts fit Triton's schema and the graphs that they describe."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner
from fake_tensorrt import write_engine
from networks import quantized_checkpoint
from onnx import TensorProto

from cunet_deploy.checkpoint.storage import Checkpoint, save_checkpoint
from cunet_deploy.cli.export import command
from cunet_deploy.errors import CunetError, InputError
from cunet_deploy.export.bundle import export_checkpoint

PROFILES = ({"image": {"min": [1, 64, 64, 3], "opt": [2, 64, 64, 3], "max": [4, 64, 64, 3]}},)
TYPES = {"TYPE_UINT8": TensorProto.UINT8, "TYPE_FP32": TensorProto.FLOAT}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton")
    save_checkpoint(quantized_checkpoint(), folder / "q.pt")
    arguments = [str(folder / "q.pt"), "-o", str(folder / "b"), "--target", "triton", "--instances", "2"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].endswith(f"tritonserver --model-repository {folder / 'b'}/triton")
    return folder / "b" / "triton"


def tensors(text: str, role: str) -> list[tuple[str, str, list[int]]]:
    """Name, type and sizes of each tensor of a role, read without Triton's schema."""
    block = re.search(rf"^{role} \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    rows = re.findall(r'name: "(\w+)", data_type: (\w+), dims: (\[[-\d, ]+\])', block[1])
    return [(name, kind, json.loads(dims)) for name, kind, dims in rows]


def test_the_repository_is_laid_out_as_triton_wants_it(repository: Path) -> None:
    assert sorted(str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()) == [
        "tiny-network/1/model.onnx",
        "tiny-network/config.pbtxt",
        "tiny/1/model.onnx",
        "tiny/1/model.py",
        "tiny/config.pbtxt",
    ]
    record = json.loads((repository.parent / "manifest.json").read_text())["triton"]
    assert record == {"models": ["tiny", "tiny-network"], "device": "cpu", "instances": 2}
    compile((repository / "tiny/1/model.py").read_text(), "model.py", "exec")
    assert (repository / "tiny/1/model.onnx").read_bytes() == (repository.parent / "model.onnx").read_bytes()


def test_the_network_is_described_as_its_graph_is(repository: Path) -> None:
    text = (repository / "tiny-network/config.pbtxt").read_text()
    graph = onnx.load(repository / "tiny-network/1/model.onnx").graph
    for role, values in (("input", graph.input), ("output", graph.output)):
        found = [
            (value.name, value.type.tensor_type.elem_type, [dim.dim_value for dim in value.type.tensor_type.shape.dim])
            for value in values
        ]
        described = [(name, TYPES[kind], [0, *dims]) for name, kind, dims in tensors(text, role)]
        assert found == described  # the batch, which Triton adds, is free in the graph


@pytest.fixture(scope="module")
def engine(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-in for an engine of the same network."""
    folder = tmp_path_factory.mktemp("engine")
    return write_engine(repository.parent / "model.onnx", folder / "tiny.engine", profiles=PROFILES)


def test_an_engine_is_served_as_it_was_built(repository: Path, engine: Path, tmp_path: Path) -> None:
    options = ["-o", str(tmp_path / "b"), "--target", "triton", "--plan", str(engine)]
    result = CliRunner().invoke(command, [str(repository.parent.parent / "q.pt"), *options])
    assert result.exit_code == 0, result.output
    folder = tmp_path / "b" / "triton" / "tiny-engine"
    assert (folder / "1" / "model.plan").read_bytes() == engine.read_bytes()
    text = (folder / "config.pbtxt").read_text()
    assert 'platform: "tensorrt_plan"\nmax_batch_size: 4\n' in text
    network = (tmp_path / "b" / "triton" / "tiny-network" / "config.pbtxt").read_text()
    assert tensors(text, "input") == tensors(network, "input")
    assert tensors(text, "output") == tensors(network, "output")[:1]
    assert re.findall(r"batch_size: (\d+), inputs", text) == ["1", "4"]
    assert "kind: KIND_GPU" in text
    model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    config: Any = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 4)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"flavour": "tensorrt_rtx", "version": "1.7.1"}, "Triton serves those of tensorrt"),
        ({"profiles": ()}, "has a fixed batch size"),
        ({"engine_sha256": "0" * 64}, "its checksum is not the one"),
    ],
)
def test_an_engine_that_triton_does_not_serve_is_refused(
    changes: dict[str, Any], error: str, repository: Path, tmp_path: Path
) -> None:
    plan = write_engine(repository.parent / "model.onnx", tmp_path / "a.engine", **{"profiles": PROFILES, **changes})
    with pytest.raises(CunetError, match=error):
        export_checkpoint(quantized_checkpoint(), tmp_path / "b", target="triton", options={"plan": plan})
    assert not (tmp_path / "b").exists()


def test_an_engine_of_another_model_is_refused(repository: Path, tmp_path: Path) -> None:
    model = Path(__file__).resolve().parents[2] / "models" / "face68-xs" / "model.onnx"
    plan = write_engine(model, tmp_path / "a.engine", profiles=PROFILES)
    with pytest.raises(InputError, match="is an engine of face68-xs, not of tiny"):
        export_checkpoint(quantized_checkpoint(), tmp_path / "b", target="triton", options={"plan": plan})


@pytest.mark.parametrize("name", ["tiny", "tiny-network"])
def test_the_texts_fit_the_schema_of_triton(name: str, repository: Path) -> None:
    pytest.importorskip("tritonclient", reason="tritonclient is not installed; run: pip install 'tritonclient[grpc]'")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    config: Any = text_format.Parse((repository / name / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert config.name == name
    assert config.backend in ("python", "onnxruntime")
    (group,) = config.instance_group
    assert (group.kind, group.count) == (model_config_pb2.ModelInstanceGroup.KIND_CPU, 2)
    policy = config.dynamic_batching.default_queue_policy
    assert policy.max_queue_size > 0  # an overloaded server refuses
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT


def test_networks_on_a_gpu_say_so(tmp_path: Path) -> None:
    export_checkpoint(quantized_checkpoint(), tmp_path, target="triton", options={"device": "gpu"})
    texts = [path.read_text() for path in sorted(tmp_path.glob("triton/*/config.pbtxt"))]
    assert all("kind: KIND_GPU, count: 1" in text for text in texts)
    assert sum('"ort:cuda"' in text for text in texts) == 1


def test_a_name_that_is_no_folder_is_changed(tmp_path: Path) -> None:
    checkpoint = quantized_checkpoint()
    named = Checkpoint("quantized", replace(checkpoint.config, name="a/b c"), checkpoint.state, checkpoint.zero_points)
    export_checkpoint(named, tmp_path, target="triton")
    assert sorted(path.name for path in (tmp_path / "triton").iterdir()) == ["a_b_c", "a_b_c-network"]


def test_a_network_of_boxes_is_refused(tmp_path: Path) -> None:
    from cunet_deploy.checkpoint.storage import load_checkpoint

    checkpoint = load_checkpoint(Path(__file__).resolve().parents[2] / "models" / "face-detect-s" / "checkpoint.pt")
    with pytest.raises(InputError, match="a network that finds boxes is served by a network that finds landmarks"):
        export_checkpoint(checkpoint, tmp_path / "b", target="triton")
    assert not (tmp_path / "b").exists()
