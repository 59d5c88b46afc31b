"""Measure models in the browser's runtime, and the page in a browser.

    python -m tools.experiments.web networks models/face68-xs models/face68-s --json networks.json
    python -m tools.experiments.web providers models/face68-xs models/face68-s --json providers.json
    python -m tools.experiments.web page face68-s --json page.json

``networks`` runs forms of the same graph in Node.js, in turns: the released one, the same without the runtime's last
optimizations (NCHW), with uint8 weights, with int8 activations, and in float; the package's own stages of a frame; and
whole frames of the demo clip, detector included, whose rate is that of one thread which does nothing else.
Times are CPU times of one thread.

``providers`` runs the released graph and that of ``export --target web`` in headless Chromium, on WebAssembly (one
thread), WebGPU and WebNN: how many heatmap values differ, and for a crop the time and the CPU time of all processes of
the browser, which others on the machine change little. WebGPU runs in software, or with ``--gpu`` on a GPU. Debian's
Chromium has no WebNN; ``--chromium`` names another, such as that of the npm package @sparticuz/chromium.

``page`` opens the page of a model in headless Chromium: its size, compressed with
gzip, the time to the first result, and the rate on a camera that plays the demo clip at 30 frames per second; the best
of several turns is what others on the machine disturbed least.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import json
import shutil
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from cunet_deploy.checkpoint.storage import load_checkpoint
from cunet_deploy.export.targets.web import write_web_model
from cunet_deploy.golden import read_golden
from cunet_deploy.manifest import Manifest
from cunet_deploy.media import open_source, read_image
from cunet_deploy.web.runtime import PACKAGE, VERSION, npm_install
from cunet_deploy.web.site import build_site
from cunet_deploy.zoo import default_detector, find_model
from tools.reports import errors_in_a_line, signed, write_report

__all__ = ["main", "write_camera"]

_SCRIPT = Path(__file__).with_suffix(".mjs")
_PROVIDERS_SCRIPT = Path(__file__).with_name("web_providers.mjs")
_TESTS = Path(__file__).resolve().parents[2] / "tests"
_PHOTO = _TESTS / "data" / "astronaut.jpg"
_CLIP = _TESTS / "data" / "demo.mp4"
_BROWSE_SCRIPT = _TESTS / "web" / "browse.mjs"
_FRAMES, _CAMERA_SECONDS = 60, 10
_FACE_DETECTOR = "face-detect-s"
_PROVIDERS = ("wasm", "webgpu", "webnn")
_FEATURES = "--enable-features=Vulkan,WebMachineLearningNeuralNetwork"
_IN_SOFTWARE = ("--use-webgpu-adapter=swiftshader", "--use-vulkan=swiftshader", "--enable-unsafe-swiftshader")
_MOST_MS = 1_000
"""Time for the calls of one turn, after which no other begins: a GPU in software takes seconds for one."""
_FACE = (170.0, 55.0, 280.0, 195.0)


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {constant.name: constant for constant in model.graph.initializer}


def _replace(constant: onnx.TensorProto, values: NDArray[Any]) -> None:
    constant.CopyFrom(numpy_helper.from_array(values, constant.name))


def uint8_weights(model: onnx.ModelProto) -> None:
    """Move int8 weights, with their zero points, by 128."""
    for constant in model.graph.initializer:
        if constant.data_type == onnx.TensorProto.INT8:
            _replace(constant, (numpy_helper.to_array(constant).astype(np.int16) + 128).astype(np.uint8))


def int8_activations(model: onnx.ModelProto) -> None:
    """Move uint8 activations, with their zero points and the image, by -128."""
    for constant in model.graph.initializer:
        if constant.data_type == onnx.TensorProto.UINT8 and not constant.dims:  # not packed weights
            _replace(constant, (numpy_helper.to_array(constant).astype(np.int16) - 128).astype(np.int8))
    pixels = {model.graph.input[0].name}
    for node in model.graph.node:
        if node.input[0] in pixels and node.op_type == "DequantizeLinear":
            first = node
        elif node.input[0] in pixels:
            pixels.update(node.output)
    name = first.input[0]
    model.graph.initializer.append(numpy_helper.from_array(np.array(-128, np.float32), "shift"))
    nodes = [
        onnx.helper.make_node("Cast", [name], [f"{name}.f"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Add", [f"{name}.f", "shift"], [f"{name}.s"]),
        onnx.helper.make_node("Cast", [f"{name}.s"], [f"{name}.i8"], to=onnx.TensorProto.INT8),
    ]
    place = list(model.graph.node).index(first)
    first.input[0] = f"{name}.i8"
    for offset, node in enumerate(nodes):
        model.graph.node.insert(place + offset, node)


def float_network(model: onnx.ModelProto) -> None:
    """Weights and activations in float: quantization of activations becomes what it cuts off, negative values."""
    constants, nodes = _constants(model), []
    integers = {model.graph.input[0].name, *constants}  # what is not float now: pixels, weights and biases
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            nodes.append(onnx.helper.make_node("Relu", [node.input[0]], [node.output[0]]))
        elif node.op_type != "DequantizeLinear":
            nodes.append(node)
            if node.input[0] in integers:
                integers.update(node.output)
        elif node.input[0] in integers:
            name, scale = node.output[0], numpy_helper.to_array(constants[node.input[1]])
            rank = 4 if _is_weight(model, name) else scale.ndim
            scale = scale.reshape(-1, *[1] * (rank - 1)) if scale.ndim else scale
            model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.factor"))
            nodes.append(onnx.helper.make_node("Cast", [node.input[0]], [f"{name}.f"], to=onnx.TensorProto.FLOAT))
            nodes.append(onnx.helper.make_node("Mul", [f"{name}.f", f"{name}.factor"], [name]))
        else:
            nodes.append(onnx.helper.make_node("Identity", [node.input[0]], [node.output[0]]))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _is_weight(model: onnx.ModelProto, name: str) -> bool:
    return any(node.op_type == "Conv" and node.input[1] == name for node in model.graph.node)


FORMS: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "released": (lambda model: None, "all"),
    "NCHW": (lambda model: None, "extended"),
    "uint8 weights": (uint8_weights, "all"),
    "int8 activations": (int8_activations, "all"),
    "float": (float_network, "all"),
}


@click.group()
def main() -> None:
    """Measure models in browsers."""


@main.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--turns", default=15, show_default=True, type=click.IntRange(1), help="Rounds over all forms.")
@click.option("--calls", default=4, show_default=True, type=click.IntRange(1), help="Calls in a row.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def networks(bundles: tuple[Path, ...], turns: int, calls: int, json_path: Path | None) -> None:
    """Measure each of BUNDLES, which hold model.onnx, manifest.json and golden.npz."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        _install(folder, "onnxruntime-web")
        (folder / "node_modules" / "cunet-deploy-web").symlink_to(PACKAGE, target_is_directory=True)
        image = read_image(_PHOTO)
        cv2.cvtColor(image, cv2.COLOR_BGR2RGBA).tofile(folder / "frame")
        jobs, crops, videos = [], [], []
        clip = _write_clip(folder / "clip")
        for bundle in bundles:
            jobs += _write_forms(bundle.resolve(), folder)
            manifest = Manifest.from_json((bundle / "manifest.json").read_text(encoding="utf-8"), str(bundle))
            crop = manifest.crop.crop(_FACE)
            place = {"x": crop.center[0], "y": crop.center[1], "side": crop.side, "size": crop.size}
            size = {"width": image.shape[1], "height": image.shape[0]}
            crops.append({"name": bundle.name, "model": str(bundle.resolve()), "crop": place, **size})
            detector = default_detector(manifest.skeleton.name)
            if detector == _FACE_DETECTOR:  # the demo clip shows a face
                found = str(find_model(detector).parent)
                videos.append({"name": bundle.name, "model": str(bundle.resolve()), "detector": found, **clip})
        task = {"jobs": jobs, "crops": crops, "videos": videos, "turns": turns, "calls": calls}
        result = _run(_SCRIPT, folder, task)
    rows = [_network_row(row) for row in result["networks"]] + [_stage_row(row) for row in result["stages"]]
    for row in result["frames"]:
        mean = statistics.mean(row["ms"])
        rows.append(
            {"frames": row["name"], "median_ms": round(statistics.median(row["ms"]), 2), "fps": round(1000 / mean)}
        )
    for row in rows:
        click.echo("  ".join(f"{key} {value}" for key, value in row.items()))
    report = {"onnxruntime-web": VERSION, "node": result["node"], "turns": turns, "calls": calls, "rows": rows}
    write_report(json_path, signed(report))


@main.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--turns", default=5, show_default=True, type=click.IntRange(1), help="Rounds over all forms.")
@click.option("--calls", default=30, show_default=True, type=click.IntRange(1), help="Calls in a row.")
@click.option("--provider", "names", multiple=True, default=_PROVIDERS, type=click.Choice(_PROVIDERS))
@click.option("--chromium", "path", help="The browser.  [default: chromium or google-chrome]")
@click.option("--gpu", is_flag=True, help="WebGPU on a GPU, not in software.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def providers(
    bundles: tuple[Path, ...],
    turns: int,
    calls: int,
    names: tuple[str, ...],
    path: str | None,
    gpu: bool,
    json_path: Path | None,
) -> None:
    """Run BUNDLES, which hold model.onnx, checkpoint.pt and golden.npz, on the CPU, WebGPU and WebNN of a browser."""
    chromium = path or _chromium()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        _install(folder, "onnxruntime-web", "playwright-core")
        (folder / "index.html").write_text("<!doctype html><title>networks</title><link rel=icon href=data:,>")
        models = []
        for bundle in bundles:
            released, web = (
                (bundle / "model.onnx").read_bytes(),
                write_web_model(load_checkpoint(bundle / "checkpoint.pt")),
            )
            jobs = [
                _write_job(bundle, folder, *form, "all") for form in (("released", released), ("for browsers", web))
            ]
            models.append([{**job, "provider": name} for job in jobs for name in names])
        flags = ["--enable-unsafe-webgpu", _FEATURES, *(() if gpu else _IN_SOFTWARE)]
        with _serving(folder) as url:
            task = {"url": url, "chromium": chromium, "flags": flags, "models": models}
            result = _run(_PROVIDERS_SCRIPT, folder, {**task, "turns": turns, "calls": calls, "limit_ms": _MOST_MS})
    rows = [_provider_row(case) for case in result["cases"]]
    for row in ({"chromium": result["browser"], **result["devices"]}, *rows):
        click.echo("  ".join(f"{key} {value}" for key, value in row.items()))
    about = {
        "onnxruntime-web": VERSION,
        "chromium": result["browser"],
        **result["devices"],
        "turns": turns,
        "calls": calls,
    }
    write_report(json_path, signed({**about, "rows": rows}))


@main.command()
@click.argument("model")
@click.option("--turns", default=5, show_default=True, type=click.IntRange(1), help="Times that the page is opened.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@errors_in_a_line
def page(model: str, turns: int, json_path: Path | None) -> None:
    """Measure the page of MODEL; Chromium, Node.js and npm are needed."""
    chromium = _chromium()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        _install(folder, "playwright-core")
        site = build_site(model, folder / "site", runtime="npm").path
        compressed = sum(len(gzip.compress(path.read_bytes())) for path in site.rglob("*") if path.is_file())
        clip = write_camera(folder / "camera.y4m")
        camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
        flags = [*camera, f"--use-file-for-fake-video-capture={clip}"]
        photo: dict[str, Any] = {"files": [str(_PHOTO)], "flags": []}
        live: dict[str, Any] = {"camera": _CAMERA_SECONDS, "grant": True, "flags": flags}
        with _serving(site) as url:
            where = {"url": url, "chromium": chromium}
            results = [
                {**_run(_BROWSE_SCRIPT, folder, where | photo), **_run(_BROWSE_SCRIPT, folder, where | live)}
                for _ in range(turns)
            ]
    firsts, rates = [result["first_ms"] / 1000 for result in results], [float(result["fps"]) for result in results]
    row = {
        "model": model,
        "compressed_mb": round(compressed / 1e6, 2),
        "first_result_s": round(statistics.median(firsts), 2),
        "best_first_result_s": round(min(firsts), 2),
        "camera_fps": statistics.median(rates),
        "best_camera_fps": max(rates),
    }
    click.echo("  ".join(f"{key} {value}" for key, value in row.items()))
    write_report(json_path, signed({"onnxruntime-web": VERSION, "turns": turns, **row}))


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_request(self, *args: object) -> None:
        """Say nothing."""


def _chromium() -> str:
    """Path of the browser."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise click.ClickException("neither chromium nor google-chrome is installed")
    return chromium


def _install(folder: Path, *names: str) -> None:
    """Packages of npm below a folder."""
    problem = npm_install(folder, *names)
    if problem:
        raise click.ClickException(f"{' and '.join(names)} cannot be installed: {problem}")


@contextlib.contextmanager
def _serving(folder: Path) -> Iterator[str]:
    """Address at which a folder is given out."""
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()


def _run(script: Path, folder: Path, task: dict[str, Any]) -> dict[str, Any]:
    """The answer of a script for Node.js to a task."""
    (folder / "task.json").write_text(json.dumps(task))
    subprocess.run(["node", "--preserve-symlinks", str(script), str(folder)], check=True)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def _write_clip(path: Path) -> dict[str, int]:
    """Frames of the demo clip as a canvas gives them; returns their size and number."""
    images = [picture.image for picture in islice(open_source(_CLIP), _FRAMES)]
    with path.open("wb") as file:
        for image in images:
            file.write(cv2.cvtColor(image, cv2.COLOR_BGR2RGBA).tobytes())
    return {"width": images[0].shape[1], "height": images[0].shape[0], "count": len(images)}


def write_camera(path: Path) -> Path:
    """The demo clip as Chromium's fake camera plays it."""
    with path.open("wb") as file:
        for index, picture in enumerate(open_source(_CLIP)):
            height, width = picture.image.shape[:2]
            if index == 0:
                file.write(f"YUV4MPEG2 W{width} H{height} F30:1 Ip C420jpeg\n".encode())
            file.write(b"FRAME\n" + cv2.cvtColor(picture.image, cv2.COLOR_BGR2YUV_I420).tobytes())
    return path


def _write_forms(bundle: Path, folder: Path) -> list[dict[str, Any]]:
    jobs = []
    for form, (change, level) in FORMS.items():
        model = onnx.load(bundle / "model.onnx")
        change(model)
        jobs.append(_write_job(bundle, folder, form, model.SerializeToString(), level))
    return jobs


def _write_job(bundle: Path, folder: Path, form: str, model: bytes, level: str) -> dict[str, Any]:
    """A form of a model with its golden inputs as files, and what a script must know of them."""
    golden, name = read_golden(bundle / "golden.npz"), f"{bundle.name}, {form}"
    (folder / f"{name}.onnx").write_bytes(model)
    golden.images.tofile(folder / f"{name}.images")
    golden.heatmaps.astype(np.float32).tofile(folder / f"{name}.heatmaps")
    return {"name": name, "size": golden.images.shape[1], "level": level}


def _network_row(row: dict[str, Any]) -> dict[str, Any]:
    median, fast = statistics.median(row["ms"]), np.percentile(row["ms"], 10)
    return {"form": row["name"], "median_ms": round(median, 2), "p10_ms": round(fast, 2), "differing": row["differing"]}


def _provider_row(case: dict[str, Any]) -> dict[str, Any]:
    head = {"form": case["name"], "provider": case["provider"]}
    if "error" in case:
        return {**head, "error": case["error"]}
    figures = {"differing": case["differing"], "largest": round(case["largest"], 4)}
    times = {"median_ms": round(statistics.median(case["ms"]), 2), "least_ms": round(min(case["ms"]), 2)}
    return {**head, **figures, **times, "cpu_ms": round(case["cpu_ms"] / len(case["ms"]), 1), "calls": len(case["ms"])}


def _stage_row(row: dict[str, Any]) -> dict[str, Any]:
    times = {f"{stage}_ms": round(statistics.median(row[stage]), 3) for stage in ("crop", "decode")}
    return {"stages": row["name"], **times}


if __name__ == "__main__":
    main()
