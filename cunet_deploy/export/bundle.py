"""A bundle: the folder that goes to the device.

model.onnx            the network with its manifest inside; the only file that inference needs
manifest.json         the manifest again, with the checksum of model.onnx and the measured parity
golden.npz            inputs with the heatmaps and landmarks that the trained network gives for them
model.tensorrt.onnx   on request: the same network for TensorRT, which builds an engine from it
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cunet_deploy._files import atomic_path
from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import TorchSession, normalize
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.config import QuantConfig
from cunet_deploy.data.readers import is_data_set
from cunet_deploy.errors import InputError, VerificationError
from cunet_deploy.export.calibration import CALIBRATION_CROPS, calibrate_checkpoint
from cunet_deploy.export.crops import crops_of_folder, drawn_crops, list_photos
from cunet_deploy.export.ranges import read_ranges
from cunet_deploy.export.targets import TARGETS, get_target
from cunet_deploy.export.targets.base import Addition, ExportJob
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.model.device import CPU
from cunet_deploy.parity import Parity, compare_sessions, locate_in_crops
from cunet_deploy.quantize.bias import correct_biases
from cunet_deploy.quantize.floats import Ranges
from cunet_deploy.quantize.observers import RangeRule
from cunet_deploy.sessions.base import Session
from cunet_deploy.sessions.onnxruntime import OrtSession

__all__ = ["GATE_PX", "Bundle", "bundle_files", "export_checkpoint", "quantized_checkpoint", "ranges_of"]

GATE_PX = 0.05
"""Mean landmark distance between torch and ONNX Runtime, in pixels of the input, above which export fails."""

DECODER_PX = 0.01
"""Mean distance between landmarks that the graph finds and those in its heatmaps, above which export fails."""

_FILES = ("model.onnx", "manifest.json", "golden.npz")
GOLDEN_CROPS, DRAWN_CROPS, PARITY_CROPS, CORRECTION_CROPS, BATCH = 2, 16, 50, 32, 16


@dataclass(frozen=True)
class Bundle:
    """Files that `export_checkpoint` wrote, and what it measured.

    Attributes:
        path: the folder.
        bytes: size of model.onnx.
        sha256: of model.onnx.
        parity: the network as it was trained (fake-quantized or float torch) against ONNX Runtime.
        differing: heatmap values in which ONNX Runtime differs from exact integer arithmetic; ``None`` for float.
        crops: "real" or "drawn": what all were measured on.
        addition: what the target added.
        loss: how far calibration moved the landmarks of the float parent; ``None``: nothing was calibrated.
    """

    path: Path
    bytes: int
    sha256: str
    parity: Parity
    differing: int | None
    crops: str
    addition: Addition
    loss: Parity | None = None


def quantized_checkpoint(
    checkpoint: Checkpoint,
    quant: QuantConfig | Literal["float"] | None,
    calibration: Path | None,
    *,
    rule: RangeRule | None = None,
    correct_on: Path | None = None,
) -> Checkpoint:
    """The checkpoint in the wanted precision, quantized after training where it must be.

    Args:
        checkpoint: float or quantized.
        quant: the bits of weights and activations; ``None``: as trained, or 8 bits for a float checkpoint.
        calibration: a folder of photos or a file of recorded ranges; a float checkpoint needs it to be quantized.
        rule: how ranges are chosen from photos; ``None`` covers every value.
        correct_on: a folder of photos on which biases are shifted to what they are in float; ``None``: they stay.

    Raises:
        InputError: the checkpoint cannot be brought to these bits.
    """
    if checkpoint.kind == "quantized":
        if quant == "float":
            raise InputError("a quantized checkpoint cannot become float again; export its float parent (float.pt)")
        trained = checkpoint.config.quant
        if quant is not None and not _agree(quant, trained):
            raise InputError(
                f"the checkpoint was trained with weights of {trained.weights} bits"
                f"{' and others by layer' if trained.layers else ''}; export it as it is, or calibrate its float "
                "parent (float.pt)"
            )
    if quant == "float" or checkpoint.kind == "quantized":
        if calibration is not None:
            what = "float weights" if quant == "float" else "a checkpoint that was trained quantized"
            raise InputError(f"calibration has no effect on {what}; leave it out, or calibrate the float checkpoint")
        return checkpoint
    if calibration is None:
        raise InputError(
            "a float checkpoint needs calibration photos, like those on the device, to be quantized; or export the "
            "quantized checkpoint of the same run (quantized.pt), or keep it float (32 bits)"
        )
    ranges = ranges_of(checkpoint, calibration, rule)
    source = checkpoint.with_ranges(ranges, quant or QuantConfig())
    source = source if correct_on is None else _corrected(source, checkpoint, correct_on)
    return replace(source, scores=checkpoint.scores)


def ranges_of(
    checkpoint: Checkpoint, calibration: Path, rule: RangeRule | None = None, device: torch.device = CPU
) -> Ranges:
    """Activation ranges of a float checkpoint from a folder of photos or a file of recorded ranges.

    Raises:
        InputError: it is neither, or a file and a rule, or was recorded for other weights.
    """
    if is_data_set(calibration):
        photos = list_photos(calibration, make_manifest(checkpoint), CALIBRATION_CROPS)
        return calibrate_checkpoint(checkpoint, photos, rule, device=device)
    ranges = read_ranges(calibration, checkpoint)
    if rule is not None:
        raise InputError(
            f"{calibration}: its ranges are chosen already; leave the method out, or name a folder of photos"
        )
    return ranges


def _corrected(source: Checkpoint, parent: Checkpoint, folder: Path) -> Checkpoint:
    """A quantized checkpoint with the biases that keep the channel means of its float parent on photos."""
    crops = crops_of_folder(folder, make_manifest(parent), CORRECTION_CROPS)
    network = source.quantized_network()
    correct_biases(network, parent.folded(), normalize(crops))
    quant = replace(source.config.quant, correct_bias=True)
    return Checkpoint.of_quantized(replace(source.config, quant=quant), network)


def _agree(wanted: QuantConfig, trained: QuantConfig) -> bool:
    """Return whether a network was trained with the wanted weights; a plain number of bits is that of inner layers."""
    if wanted == QuantConfig(weight_bits=wanted.weight_bits):
        return wanted.weight_bits == trained.weight_bits
    return (wanted.weights, wanted.edge_bits, wanted.layers) == (trained.weights, trained.edge_bits, trained.layers)


def bundle_files(folder: Path) -> list[Path]:
    """The files of a bundle, with what any target adds, that lie in a folder."""
    own = [folder / name for name in _FILES if (folder / name).exists()]
    return own + [path for target in TARGETS.values() for path in target.found_in(folder)]


def export_checkpoint(
    checkpoint: Checkpoint,
    out: Path,
    *,
    images: Path | None = None,
    parent: Checkpoint | None = None,
    target: str = "cpu",
    options: Mapping[str, Any] | None = None,
    decoded: bool = False,
    overwrite: bool = False,
) -> Bundle:
    """Write the bundle of a checkpoint and prove that it computes what the checkpoint does.

    Args:
        checkpoint: in the precision to export.
        out: the folder; made when missing.
        images: real photos to measure the parity on (50 crops); drawn faces otherwise.
        parent: the float checkpoint that was calibrated to become this one: the distance to it is measured too.
        target: also write what this one of `cunet_deploy.export.targets.TARGETS` adds.
        options: of the target.
        decoded: let the graph also find the landmarks; see `cunet_deploy.export.decoding`.
        overwrite: replace files of an earlier bundle; what another target added to it is removed.

    Raises:
        InputError: a file exists already.
        VerificationError: ONNX Runtime and torch differ by more than `GATE_PX`; nothing is left under the final names.
    """
    chosen = get_target(target)
    existing = bundle_files(out)
    if existing and not overwrite:
        raise InputError(f"{existing[0]} exists already; overwrite it or choose another folder")
    model = write_model(checkpoint, decoded=decoded)
    manifest, exact = make_manifest(checkpoint), TorchSession(checkpoint)
    crops = drawn_crops(manifest, DRAWN_CROPS) if images is None else crops_of_folder(images, manifest, PARITY_CROPS)
    parity, differing = _prove(checkpoint, exact, model, crops)
    addition = chosen.write(ExportJob(checkpoint, manifest, model, exact, crops), options or {})
    sha256, kind = hashlib.sha256(model).hexdigest(), "drawn" if images is None else "real"
    measured = {**parity.to_dict(), "crops_are": kind, "values_differing_from_integer_arithmetic": differing}
    table = {**manifest.to_dict(), "sha256": sha256, "parity": measured}
    loss = None if parent is None else compare_sessions(TorchSession(parent), exact, crops)
    if loss is not None:
        table["calibration_loss"] = {**loss.to_dict(), "crops_are": kind}
    if addition.record:
        table[target] = addition.record
    description = json.dumps(table, indent=1, sort_keys=True, allow_nan=False) + "\n"
    golden = _golden(exact, drawn_crops(manifest, GOLDEN_CROPS))
    files = {"golden.npz": golden, "manifest.json": description.encode(), **addition.files, "model.onnx": model}
    with contextlib.ExitStack() as written:  # all are written before the first gets its name; the model gets it last
        for name, content in reversed(files.items()):
            written.enter_context(atomic_path(out / name, overwrite=True)).write_bytes(content)
    # What another target added to an earlier bundle is of another network.
    for path in set(existing) - {out / name for name in (*_FILES, *addition.files)}:
        path.unlink()
        for folder in itertools.takewhile(lambda folder: folder != out and not any(folder.iterdir()), path.parents):
            folder.rmdir()
    return Bundle(out, len(model), sha256, parity, differing, kind, addition, loss)


def _prove(
    checkpoint: Checkpoint, exact: TorchSession, model: bytes, crops: NDArray[np.uint8]
) -> tuple[Parity, int | None]:
    """Run an exported file: how far its landmarks are from the checkpoint's, and how many heatmap values differ."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(model)
        session = OrtSession(file)
        parity = compare_sessions(TorchSession(checkpoint, exact=False), session, crops)
        differing = None if checkpoint.kind == "float" else _differing(exact, session, crops)
        if session.decodes:
            _prove_decoder(session, crops)
        session.close()
    if not parity.mean_px <= GATE_PX:  # a NaN is no pass
        raise VerificationError(
            f"the exported model differs from the checkpoint by {parity.mean_px:.3f} px on average over {len(crops)} "
            f"crops, allowed are {GATE_PX} px; nothing was written. Please report this with the checkpoint"
        )
    return parity, differing


def _prove_decoder(session: OrtSession, crops: NDArray[np.uint8]) -> None:
    """The landmarks that the graph finds must be those in its heatmaps."""
    points, scores = session.landmarks(crops)
    expected, heights = session.manifest.read(session.run(crops))
    moved = float(np.linalg.norm(points - expected, axis=-1).mean())
    if not (moved <= DECODER_PX and np.array_equal(scores, heights)):
        raise VerificationError(
            f"the landmarks that the graph finds differ from those in its heatmaps by {moved:.4f} px on average, "
            f"allowed are {DECODER_PX} px; nothing was written. Please report this with the checkpoint, or export "
            "without the decoder"
        )


def _differing(exact: Session, session: Session, crops: NDArray[np.uint8]) -> int:
    """Count the heatmap values that differ at all, in batches that fit any memory."""
    starts = range(0, len(crops), BATCH)
    parts = [crops[start : start + BATCH] for start in starts]
    return sum(int((exact.run(part) != session.run(part)).sum()) for part in parts)


def _golden(reference: TorchSession, crops: NDArray[np.uint8]) -> bytes:
    """Golden inputs and outputs as the bytes of an ``.npz``, with the same bytes for the same arrays."""
    points, maps = locate_in_crops(reference, crops)
    arrays: dict[str, NDArray[Any]] = {"images": crops, "heatmaps": maps, "points": points.astype(np.float32)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))  # a fixed date, no clock inside
            entry.compress_type = zipfile.ZIP_DEFLATED
            member = io.BytesIO()
            np.lib.format.write_array(member, values, allow_pickle=False)
            archive.writestr(entry, member.getvalue())
    return buffer.getvalue()
