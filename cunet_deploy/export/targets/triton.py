"""Writes a model repository that NVIDIA Triton loads as it is: ``tritonserver --model-repository BUNDLE/triton``.

NAME            a model of the Python backend: an encoded picture or a frame in; boxes, landmarks, scores, ids out
NAME-network    the network alone, with its decoder, for the ONNX Runtime backend: batches of crops in
NAME-engine     an engine of the same network, where one is given, for the TensorRT backend: batches of crops in

Requests wait in a queue of limited length and time, and are refused where it is full: an overloaded server answers with
an error, not ever later.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from cunet_deploy.errors import InputError
from cunet_deploy.export.onnx_builder import INPUT, LANDMARKS, OUTPUT, SCORES
from cunet_deploy.export.targets.base import Addition, ExportJob
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.manifest import Manifest
from cunet_deploy.serve.handler import MAX_PIXELS
from cunet_deploy.tensorrt.sidecar import EngineManifest

__all__ = ["write"]

MAX_BATCH, QUEUE_SIZE, QUEUE_TIMEOUT_US, BATCH_DELAY_US = 16, 64, 5_000_000, 2_000

_MODEL = f'''"""Finds landmarks in pictures; written by cunet-deploy export --target triton."""

import os

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "{MAX_PIXELS}")  # before OpenCV is loaded: bombs are not unpacked

from cunet_deploy.serve.triton import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write(
    job: ExportJob, *, device: Literal["cpu", "gpu"] = "cpu", instances: int = 1, plan: Path | None = None
) -> Addition:
    """The model repository.

    Args:
        job: what it is made of.
        device: what the networks run on.
        instances: how many requests are worked on at a time.
        plan: an engine of the network, which the server's own TensorRT has to be able to load.

    Raises:
        InputError: the network finds boxes, its way of decoding cannot be written into the graph, or the engine is not
            one of this network that Triton serves.
        ArtifactError: the description of the engine is damaged.
        UntrustedError: there is none, or it is of another engine.
    """
    if job.manifest.boxes is not None:
        raise InputError("a network that finds boxes is served by a network that finds landmarks in them; export that")
    name = re.sub(r"[^\w.-]", "_", job.manifest.name)
    network = f"{name}-network"
    files = {
        f"triton/{name}/config.pbtxt": _pictures(name, job.manifest, device, instances).encode(),
        f"triton/{name}/1/model.py": _MODEL.encode(),
        f"triton/{name}/1/model.onnx": job.model,
        f"triton/{network}/config.pbtxt": _crops(network, job.manifest, device, instances).encode(),
        f"triton/{network}/1/model.onnx": write_model(job.checkpoint, decoded=True),
    }
    summary = {
        f"triton/{name}/1/model.onnx": "for pictures, by Triton's Python backend; needs cunet-deploy where it runs",
        f"triton/{network}/1/model.onnx": "for crops, by Triton's ONNX Runtime backend",
    }
    models = [name, network]
    if plan is not None:
        engine, content = f"{name}-engine", plan.read_bytes()
        description = EngineManifest.read(plan)
        description.check_checksum(plan, content)
        files[f"triton/{engine}/config.pbtxt"] = _engine(engine, plan, description, job.manifest, instances).encode()
        files[f"triton/{engine}/1/model.plan"] = content
        summary[f"triton/{engine}/1/model.plan"] = "for crops, by Triton's TensorRT backend; the client decodes"
        models.append(engine)
    return Addition(files, {"models": models, "device": device, "instances": instances}, summary)


def _tensor(name: str, kind: str, dims: list[int], *, optional: bool = False) -> str:
    suffix = ", optional: true" if optional else ""
    return f'  {{ name: "{name}", data_type: TYPE_{kind}, dims: {dims}{suffix} }}'


def _tensors(role: str, items: list[str]) -> str:
    return f"{role} [\n" + ",\n".join(items) + "\n]\n"


def _scheduling(device: str, instances: int, *, gather: bool) -> str:
    wait = f"\n  max_queue_delay_microseconds: {BATCH_DELAY_US}" if gather else ""
    return f"""dynamic_batching {{{wait}
  default_queue_policy {{
    max_queue_size: {QUEUE_SIZE}
    timeout_action: REJECT
    default_timeout_microseconds: {QUEUE_TIMEOUT_US}
  }}
}}
instance_group [ {{ kind: KIND_{device.upper()}, count: {instances} }} ]
"""


def _pictures(name: str, manifest: Manifest, device: str, instances: int) -> str:
    """Pictures of any size, so no batches; several instances work side by side."""
    count = len(manifest.skeleton)
    inputs = [
        _tensor("image", "STRING", [1], optional=True),
        _tensor("frame", "UINT8", [-1, -1, 3], optional=True),
        _tensor("boxes", "FP32", [-1, 4], optional=True),
    ]
    outputs = [
        _tensor("boxes", "FP32", [-1, 4]),
        _tensor("landmarks", "FP32", [-1, count, 2]),
        _tensor("scores", "FP32", [-1, count]),
        _tensor("ids", "INT64", [-1]),
    ]
    parameters = 'parameters { key: "threads" value { string_value: "1" } }\n'
    if device == "gpu":
        parameters += 'parameters { key: "backend" value { string_value: "ort:cuda" } }\n'
    return (
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: 0\n'
        + _tensors("input", inputs)
        + _tensors("output", outputs)
        + _scheduling(device, instances, gather=False)
        + parameters
    )


def _crops(name: str, manifest: Manifest, device: str, instances: int) -> str:
    """Crops, which the client cut as the manifest says; single ones meet in batches."""
    size, cells, count = manifest.crop.size, manifest.map_size, len(manifest.skeleton)
    outputs = [
        _tensor(OUTPUT, "FP32", [count, cells, cells]),
        _tensor(LANDMARKS, "FP32", [count, 2]),
        _tensor(SCORES, "FP32", [count]),
    ]
    return _batches(
        name, 'backend: "onnxruntime"', size, MAX_BATCH, outputs, _scheduling(device, instances, gather=True)
    )


def _engine(name: str, plan: Path, engine: EngineManifest, manifest: Manifest, instances: int) -> str:
    """Crops for an engine, in batches as large as it was built for."""
    if engine.flavour != "tensorrt":
        raise InputError(f"{plan}: is an engine of {engine.flavour}; Triton serves those of tensorrt")
    if (engine.model.name, engine.model.crop) != (manifest.name, manifest.crop):
        raise InputError(f"{plan}: is an engine of {engine.model.name}, not of {manifest.name}")
    if not engine.profiles:
        raise InputError(f"{plan}: has a fixed batch size; Triton gathers requests: build it from a bundle without one")
    batch = int(engine.profiles[0][INPUT]["max"][0])
    cells, count = manifest.map_size, len(manifest.skeleton)
    outputs = [_tensor(OUTPUT, "FP32", [count, cells, cells])]
    scheduling = _scheduling("gpu", instances, gather=True)
    return _batches(name, 'platform: "tensorrt_plan"', manifest.crop.size, batch, outputs, scheduling)


def _batches(name: str, kind: str, size: int, batch: int, outputs: list[str], scheduling: str) -> str:
    """Batches of crops, warmed up with the smallest and the largest."""
    warm_up = ",\n".join(
        f'  {{ name: "{count}", batch_size: {count}, inputs {{ key: "{INPUT}" value {{ data_type: TYPE_UINT8, '
        f"dims: {[size, size, 3]}, zero_data: true }} }} }}"
        for count in sorted({1, batch})
    )
    return (
        f'name: "{name}"\n{kind}\nmax_batch_size: {batch}\n'
        + _tensors("input", [_tensor(INPUT, "UINT8", [size, size, 3])])
        + _tensors("output", outputs)
        + scheduling
        + f"model_warmup [\n{warm_up}\n]\n"
    )
