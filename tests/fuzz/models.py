"""Networks, checkpoints and what goes with them, and what reads them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np

from cunet_deploy.checkpoint.session import open_torch_session
from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.cli import verify
from cunet_deploy.export.progress import ResumeFile
from cunet_deploy.export.ranges import read_ranges
from cunet_deploy.labelling.description import read_description
from cunet_deploy.labelling.teachers import open_teacher
from cunet_deploy.localizer import Localizer
from cunet_deploy.onnx_graph.costs import read_costs
from cunet_deploy.onnx_graph.storage import read_storage
from cunet_deploy.sessions import open_session
from cunet_deploy.tensorrt.lint import check_model
from cunet_deploy.tensorrt.sidecar import EngineManifest
from fuzz.pictures import picture


def write_model(root: Path) -> list[Path]:
    from dots import write_model
    from networks import lowered

    from cunet_deploy.export.targets.tensorrt import Lowering

    (root / "model.tensorrt.onnx").write_bytes(lowered(lowering=Lowering()))
    return [write_model(root / "dots.onnx"), root / "model.tensorrt.onnx"]


def run_model(root: Path, path: Path) -> None:
    if path.name != "dots.onnx":
        open_session(path, threads=1).close()
        return
    image = picture(160, 120)
    with Localizer(path, threads=1, detector="full") as localizer:
        found = localizer.predict(image, boxes=[[30, 20, 120, 100]])
        found.plot(image)


def inspect(root: Path, path: Path) -> None:
    read_storage(path)
    read_costs(path)
    check_model(path, target="sm87")


def write_graphs(root: Path) -> list[Path]:
    import onnx
    from onnx import TensorProto, helper

    info = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    function = helper.make_function(
        "local", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    branches = [
        helper.make_graph([helper.make_node(op, ["u"], ["r"])], op, [], [info("r", shape=[1, 3, 8, 8])])
        for op in ("Abs", "Neg")
    ]
    nodes = [
        helper.make_node("F", ["x"], ["u"], domain="local"),
        helper.make_node("ReduceMax", ["u"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["some"]),
        helper.make_node("If", ["some"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    ends = [info(name, shape=[1, 3, 8, 8]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [zero])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=[function]), root / "nested.onnx")
    model, lowered = write_model(root)
    onnx.save(
        onnx.load(model), root / "ext.onnx", save_as_external_data=True, location="weights.bin", size_threshold=100
    )
    return [root / "nested.onnx", model, lowered, root / "ext.onnx"]


def write_teacher(root: Path) -> list[Path]:
    from dots import write_model

    table = {
        "dots.toml": ("heatmap", ""),
        "simcc.toml": ("simcc", 'names = ["heatmaps", "heatmaps"]\n'),
        "coordinates.toml": ("coordinates", 'columns = ["y", "x", "score"]\nunit = "share"\nactivation = "sigmoid"\n'),
    }
    for name, (form, more) in table.items():
        head = 'model = "dots.onnx"\nlandmarks = ["a", "b", "c", "d", "e"]\n[input]\nwidth = 64\nheight = 64\n'
        rest = f'layout = "NHWC"\ntype = "uint8"\nscale = [1]\n[output]\nform = "{form}"\n{more}'
        (root / name).write_text(head + rest)
    return [*(root / name for name in table), write_model(root / "dots.onnx")]


def ask_teacher(root: Path, path: Path) -> None:
    if path.stem != "dots":  # the network gives heatmaps
        read_description(path)
        return
    teacher = open_teacher(str(root / "dots.toml" if path.suffix == ".onnx" else path), threads=1)
    try:
        teacher.read(picture(64, 64)[None])
    finally:
        teacher.close()


def write_detector(root: Path) -> list[Path]:
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Reshape", ["m", "one"], ["s"]),
        helper.make_node("Add", ["rows", "s"], ["y"]),
    ]
    rows = np.array([[4, 4, 20, 20, 0.5], [8, 8, 30, 24, 0.4]], np.float32)
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5])],
        [
            helper.make_tensor("one", TensorProto.INT64, [2], [1, 1]),
            helper.make_tensor("rows", TensorProto.FLOAT, rows.shape, rows.ravel()),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), root / "d.onnx")
    return [root / "d.onnx"]


def write_bundle(root: Path) -> list[Path]:
    from networks import quantized_checkpoint

    from cunet_deploy.export.bundle import export_checkpoint

    export_checkpoint(quantized_checkpoint(), root / "bundle")
    return [root / "bundle" / name for name in ("manifest.json", "golden.npz")]


def run_verify(root: Path, path: Path) -> None:
    verify.command.main([str(root / "bundle"), "--threads", "1"], standalone_mode=False)


def write_engine(root: Path) -> list[Path]:
    from dots import write_model
    from fake_tensorrt import write_engine

    engine = write_engine(write_model(root / "dots.onnx"), root / "dots.engine")
    return [engine.with_name("dots.engine.json")]


def read_engine(root: Path, path: Path) -> None:
    described = EngineManifest.read(root / "dots.engine")
    described.check_checksum(root / "dots.engine")
    described.check_fits(root / "dots.engine", "tensorrt", "10.3.0", 87)
    described.model.to_json()
    json.dumps(described.to_dict())


def write_checkpoints(root: Path) -> list[Path]:
    from networks import float_network, quantized

    from cunet_deploy.checkpoint.storage import save_checkpoint
    from cunet_deploy.config import QuantConfig

    save_checkpoint(float_network("post"), root / "float.pt")
    save_checkpoint(quantized("post", QuantConfig()), root / "quantized.pt")
    return [root / "float.pt", root / "quantized.pt"]


def run_checkpoint(root: Path, path: Path) -> None:
    session = open_torch_session(path)
    size = session.manifest.crop.size
    session.run(np.zeros((1, size, size, 3), np.uint8))


def write_legacy(root: Path) -> list[Path]:
    from legacy_files import Shape, authors_state, write_legacy

    state = authors_state(Shape())
    return [write_legacy(root / "old.pth.tar", {"epoch": 3, "arch": "cu-net", "state_dict": state})]


def write_ranges(root: Path) -> list[Path]:
    from networks import float_network, quantized

    from cunet_deploy.checkpoint.storage import save_checkpoint
    from cunet_deploy.config import QuantConfig
    from cunet_deploy.export.ranges import write_ranges

    checkpoint = float_network("post")
    save_checkpoint(checkpoint, root / "float.pt")
    groups = sorted(quantized("post", QuantConfig()).zero_points) or ["x"]
    write_ranges(dict.fromkeys(groups, (0.0, 1.0)), checkpoint, root / "ranges.json", crops=4)
    ResumeFile.beside(root / "out.json", weights="1").save({"counts": np.arange(5), "done": np.array(2)})
    return [root / "ranges.json", root / "out.json.partial"]


def load_ranges(root: Path, path: Path) -> None:
    if path.suffix == ".partial":
        ResumeFile.beside(root / "out.json", weights="1").load()
    else:
        read_ranges(path, load_checkpoint(root / "float.pt"))


def write_report(root: Path) -> list[Path]:
    estimate = {"value": 1.0, "ci95_low": 0.9, "ci95_high": 1.1}
    row = {
        "model": "a",
        "backend_name": "ort:cpu",
        "threads": 1,
        "batch": 1,
        "total_median_ms": estimate,
        "total_ratio_to_first": estimate,
    }
    table = {
        "rounds": 30,
        "input": "drawn",
        "detector": "full",
        "machine": {"cpus": 2},
        "versions": {"numpy": "2"},
        "models": [row, {**row, "model": "b"}],
    }
    (root / "bench.json").write_text(json.dumps(table))
    return [root / "bench.json"]
