"""Parts of `gpu_acceptance.sh` that a shell cannot do: compare in pixels, spoil an engine, and join the results.

python -m tools.gpu_acceptance parity BUNDLE ENGINE OUT.json
python -m tools.gpu_acceptance tamper ENGINE OUT.json
python -m tools.gpu_acceptance uint8 MODEL.tensorrt.onnx OUT.onnx
python -m tools.gpu_acceptance report FOLDER
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cunet_deploy._files import write_bytes_atomic, write_text_atomic
from cunet_deploy._optional import require
from cunet_deploy.errors import CunetError
from cunet_deploy.parity import compare_sessions
from cunet_deploy.sessions import open_session
from cunet_deploy.tensorrt.sidecar import EngineManifest, sidecar_path
from tools.gpu_training import results

__all__ = ["answers", "main"]

TAIL = 2000
"""Characters of a log that go into the report."""


def parity(bundle: Path, engine: Path) -> dict[str, Any]:
    """An engine against ONNX Runtime on the CPU: on the graph it was built from, and on the bundle's own model."""
    crops = np.load(bundle / "golden.npz", allow_pickle=False)["images"]
    session = open_session(engine)
    result: dict[str, Any] = {"engine": engine.name, "backend": session.backend}
    for name in ("model.tensorrt.onnx", "model.onnx"):
        result[f"against_{name}"] = compare_sessions(open_session(bundle / name), session, crops).to_dict()
    first, again = session.run(crops), session.run(crops)
    result["repeatable"] = bool(np.array_equal(first, again))
    batches = np.concatenate([session.run(crops[index : index + 1]) for index in range(len(crops))])
    result["largest_difference_between_batch_sizes"] = float(np.abs(batches - first).max())
    session.close()
    result["layers"] = EngineManifest.read(engine).layers
    return result


def tamper(engine: Path) -> dict[str, Any]:
    """Try a changed and a truncated engine; expected are exit codes 6, 6 and 3."""
    content = engine.read_bytes()
    cases = {
        "changed": (content[:-1] + bytes([content[-1] ^ 1]), False),
        "truncated": (content[: len(content) // 2], False),
        "truncated_and_trusted": (content[: len(content) // 2], True),
    }
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / engine.name
        shutil.copy(sidecar_path(engine), sidecar_path(copy))
        for name, (changed, trust) in cases.items():
            copy.write_bytes(changed)
            try:
                open_session(copy, trust=trust).close()
                found[name] = {"exit_code": 0, "message": "it was loaded"}
            except CunetError as error:
                found[name] = {"exit_code": error.exit_code, "message": str(error)}
    return found


def with_uint8_activations(source: Path, out: Path) -> None:
    """Write a graph for TensorRT again with activations in uint8 from 0, which TensorRT may reject or misread."""
    onnx: Any = require("onnx", extra="tensorrt")
    model = onnx.load(str(source))
    zero = onnx.numpy_helper.from_array(np.array(0, np.uint8), "zero.uint8")
    model.graph.initializer.append(zero)
    for node in model.graph.node:
        if ".int8" in node.name and not node.name.startswith("image."):  # the image has negative values
            node.input[2] = zero.name
    write_bytes_atomic(out, model.SerializeToString(), overwrite=True)


def report(folder: Path) -> dict[str, Any]:
    """All that the steps left, and what it says about the open questions."""
    logs = folder / "logs"
    steps = {}
    lines = [line for path in sorted(logs.glob("steps*.tsv")) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        name, code, seconds = line.split("\t")
        steps[name] = {"exit_code": int(code) if code.isdecimal() else code, "seconds": float(seconds)}
        for kind in ("out", "err"):
            file = logs / f"{name}.{kind}"
            if file.is_file():
                steps[name][kind] = file.read_text(encoding="utf-8", errors="replace")[-TAIL:]
    tables = {path.stem: _json(path) for path in sorted(logs.glob("*.json"))}
    training = results(folder)
    return {"answers": answers(steps, tables), "training": training, "steps": steps, "tables": tables}


def answers(steps: dict[str, Any], tables: dict[str, Any]) -> dict[str, Any]:
    """The open questions, each with the numbers that answer it, or ``None`` where its step did not run."""
    precisions = ("fp32", "fp16", "int8", "int8-features", "int8-fp32")
    latency = {
        f"{name}_batch{batch}_p50_ms": [_latency(tables, f"{way}-{name}-{batch}") for way in ("bench", "graph")]
        for name in precisions
        for batch in (1, 4, 8)
    }
    int8, fp16 = (_latency(tables, f"bench-{name}-1") for name in ("int8", "fp16"))
    outputs = [
        layer.get("outputs")
        for layer in (tables.get("parity-int8", {}).get("layers") or {}).get("layers", [])
        if isinstance(layer, dict)
    ]
    rtx = [_latency(tables, f"rtx-bench-{name}") for name in ("int8", "fp16")]
    return {
        "network_p50_ms_queued_and_with_cuda_graph": latency,
        "fp16_time_by_int8_time": round(fp16 / int8, 3) if int8 and fp16 else None,
        "types_that_int8_layers_give": outputs or None,
        "landmark_distance_to_onnx_runtime": {
            name: tables.get(f"parity-{name}", {}).get("against_model.tensorrt.onnx") for name in precisions
        },
        "uint8_zero_point_0_builds": _went_well(steps, "uint8-build"),
        "rebuild_is_the_same_engine": _same(steps),
        "dla_builds": {name: _went_well(steps, name) for name in steps if name.startswith("dla")},
        "rtx_network_p50_ms_int8_fp16": rtx,
        "fp8_on_rtx": "not answered: this package exports no FP8",
        "refused_engines": tables.get("tamper"),
    }


def _latency(tables: dict[str, Any], name: str) -> float | None:
    models = tables.get(name, {}).get("models")
    return float(models[0]["network_p50_ms"]) if models else None


def _went_well(steps: dict[str, Any], name: str) -> bool | None:
    return steps[name]["exit_code"] == 0 if name in steps else None


def _same(steps: dict[str, Any]) -> bool | None:
    """Return whether two builds printed the same checksum."""
    sums = [
        steps.get(name, {}).get("out", "").partition("sha256 ")[2].split() for name in ("build-int8", "rebuild-int8")
    ]
    return sums[0][0] == sums[1][0] if all(sums) else None


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {"error": str(error)}


def main(arguments: list[str]) -> int:
    """Do what the first argument says."""
    try:
        match arguments:
            case ["parity", bundle, engine, out]:
                table, path = parity(Path(bundle), Path(engine)), Path(out)
            case ["tamper", engine, out]:
                table, path = tamper(Path(engine)), Path(out)
            case ["uint8", source, out]:
                with_uint8_activations(Path(source), Path(out))
                return 0
            case ["report", folder]:
                table, path = report(Path(folder)), Path(folder) / "acceptance.json"
            case _:
                print(__doc__, file=sys.stderr)
                return 2
        write_text_atomic(path, json.dumps(table, indent=1) + "\n", overwrite=True)
    except (CunetError, OSError) as error:
        print(f"gpu_acceptance: error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
