"""TensorRT for RTX in tests: it builds on any x86 machine, and must be there in CI."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cunet_deploy.tensorrt.compile import BuildSpec

WORKER = """
import json, sys
from pathlib import Path
from cunet_deploy.tensorrt.compile import BuildSpec, compile_network
from cunet_deploy.errors import CunetError
folder = Path(sys.argv[1])
for line in sys.stdin:
    name, spec = json.loads(line)
    (folder / "running").write_text(name)
    try:
        layers = compile_network(BuildSpec.from_json(spec)).layers
        result = {"int8": layers.int8, "convolutions": len(layers.convolutions)}
    except CunetError as error:
        result = {"error": str(error)}
    with (folder / "results").open("a") as file:
        file.write(json.dumps([name, result]) + "\\n")
"""


def need_rtx() -> None:
    """Skip the test where TensorRT for RTX is not installed; fail it there in CI."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        reason = "tensorrt_rtx is not installed; run: pip install 'cunet-deploy[tensorrt-rtx]'"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def compile_all(
    models: dict[str, bytes], folder: Path, sm: tuple[int, ...] = (), *, free_batch: bool = False
) -> dict[str, object]:
    """Outcome by model: counts of convolutions, an error, or "crash" where the process dies.

    All are built in one process, which is started again behind a model that kills it.
    """
    jobs = {}
    for index, (name, model) in enumerate(models.items()):
        path = folder / f"{index}.onnx"
        path.write_bytes(model)
        profile = _free_batch(model) if free_batch else None
        jobs[name] = BuildSpec(path, "tensorrt_rtx", sm, profile=profile).to_json()
    results: dict[str, object] = {}
    while missing := [name for name in jobs if name not in results]:
        lines = "".join(json.dumps([name, jobs[name]]) + "\n" for name in missing)
        done = subprocess.run([sys.executable, "-c", WORKER, str(folder)], input=lines, text=True, capture_output=True)
        for line in (folder / "results").read_text().splitlines() if (folder / "results").exists() else []:
            name, result = json.loads(line)
            results[name] = result
        if done.returncode:
            running = (folder / "running").read_text()
            assert done.returncode < 0, f"{running}: {done.stderr}"
            results[running] = "crash"
    return results


def _free_batch(model: bytes) -> dict[str, dict[str, list[int]]] | None:
    from cunet_deploy.tensorrt.lint import check_model
    from cunet_deploy.tensorrt.profile import make_profile

    return make_profile(check_model(model).inputs, None) or None
