"""Metadata inside a model file: everything needed to use it, and nothing that must be guessed.

The manifest is JSON. It stands inside an ONNX file as metadata under the key `METADATA_KEY`, so that one file is
enough, and beside an engine or in a bundle as ``manifest.json``, with the checksum of the model file and what was
measured.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from cunet_deploy._decode import Share, check_fields, decode_json
from cunet_deploy.boxmaps import BoxCode
from cunet_deploy.errors import ArtifactError, InputError
from cunet_deploy.geometry import CropRule
from cunet_deploy.heatmaps import Decoder, decode, map_to_input
from cunet_deploy.metrics.reliability import ScoreCurve
from cunet_deploy.skeletons import Skeleton

__all__ = ["FORMAT", "METADATA_KEY", "Manifest"]

FORMAT = 1
METADATA_KEY = "cunet_deploy"

Bits = Annotated[int, Meta(ge=1, le=32)]


@dataclass(frozen=True)
class _Version:
    """The one key of a manifest that every version reads."""

    format: int


@dataclass(frozen=True)
class Manifest:
    """The contract of a model that finds landmarks in crops, or boxes in whole images.

    The network takes ``image``, (B, size, size, 3) uint8 BGR, and computes on ``(image - 128) / 128``; it returns
    ``heatmaps``, (B, K, size / stride, size / stride) float32.

    Attributes:
        name: of the model.
        skeleton: the K landmarks, in order.
        crop: how a tight box becomes the input.
        stride: input pixels per heatmap cell.
        decoder: how a landmark is read from its map.
        weight_bits: of most of the convolutions' weights; 32 is float. The first and last layers may have more.
        activation_bits: of the convolutions' inputs; 32 is float.
        min_score: mean height of the landmarks' peaks from which an object counts as found, half of it where the
            detector is confident.
        licence: of the weights, with what the training data allows.
        trained_on: names of the data sets.
        opset: ONNX operator set.
        producer: package and version that wrote the file.
        checkpoint: SHA-256 of the weights that the model was made from.
        detector: name of the released model, or path of the file, that finds its objects; empty: what is usual for the
            skeleton.
        boxes: how boxes are read from the maps; ``None``: the maps are those of landmarks.
        keep_score: mean height from which an object that was found in the frame before still counts as found;
            ``None``: from ``min_score``.
        visible_score: score from which a landmark counts as visible; ``None``: its scores do not tell hidden landmarks
            from visible ones.
        score_curve: what the height of a peak says about the landmark; ``None``: heights are given as scores.
        reduced_range: no weight of its convolutions needs more than 7 bits; see `machine.cpu.may_saturate`.
    """

    name: str
    skeleton: Skeleton
    crop: CropRule
    stride: Annotated[int, Meta(ge=1, le=64)]
    decoder: Decoder
    weight_bits: Bits
    activation_bits: Bits
    min_score: Share
    licence: str
    trained_on: tuple[str, ...]
    opset: Annotated[int, Meta(ge=1, le=10**6)]
    producer: str
    checkpoint: str
    format: int = field(default=FORMAT)
    reduced_range: bool = False
    boxes: BoxCode | None = None
    detector: str = ""
    keep_score: Share | None = None
    visible_score: Share | None = None
    score_curve: ScoreCurve | None = None

    def __post_init__(self) -> None:
        check_fields(self, "manifest:", InputError)

    @property
    def map_size(self) -> int:
        """Side of the heatmaps, in cells."""
        return self.crop.size // self.stride

    @property
    def may_saturate(self) -> bool:
        """Return whether sums of two products of its bytes may exceed 16 bits; see `machine.cpu.may_saturate`."""
        return self.weight_bits < 32 and not self.reduced_range

    @property
    def points(self) -> int:
        """K, how many points `read` gives for each input."""
        return len(self.skeleton) if self.boxes is None else 2

    def scores(self, heights: NDArray[np.float32]) -> NDArray[np.float32]:
        """(...) heights of peaks as the scores that people see: by `score_curve`, or as they are."""
        return heights if self.score_curve is None else self.score_curve.apply(heights)

    def read(self, maps: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Decode (B, P, H, W) maps of the network.

        Returns:
            points: (B, K, 2) landmarks in pixels of the input; of a network that finds boxes, the two corners of the
                most certain box in each image.
            heights: (B, K) of the peaks, in [0, 1]; see `scores`.
        """
        if self.boxes is not None:
            return self.boxes.best(maps, self.stride)
        cells, heights = decode(maps, self.decoder)
        return map_to_input(cells, self.stride), heights

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON stores them."""
        table = {item.name: getattr(self, item.name) for item in fields(self)}
        if not self.detector:
            del table["detector"]
        for name in ("keep_score", "visible_score"):
            if table[name] is None:
                del table[name]
        if self.score_curve is None:
            del table["score_curve"]
        else:
            table["score_curve"] = self.score_curve.to_dict()
        if self.boxes is None:
            del table["boxes"]
        else:
            table["boxes"] = self.boxes.to_dict()
        if not self.reduced_range:
            del table["reduced_range"]  # as in files that are older than this key
        table["skeleton"] = self.skeleton.to_dict()
        table["crop"] = {"size": self.crop.size, "padding": self.crop.padding}
        table["decoder"] = self.decoder.to_dict()
        table["trained_on"] = list(self.trained_on)
        table["input"] = {
            "name": "image",
            "layout": "NHWC",
            "type": "uint8",
            "colour": "BGR",
            "mean": 128,
            "scale": 128,
        }
        table["output"] = {"name": "heatmaps", "layout": "NCHW", "type": "float32"}
        return table

    def to_json(self) -> str:
        """One line of JSON with sorted keys: the same manifest is always the same text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes, source: str | Path) -> Manifest:
        """Read a manifest.

        Args:
            text: the JSON.
            source: named in errors.

        Raises:
            ArtifactError: it is not a manifest or of a newer format.
        """
        try:
            version = decode_json(text, _Version).format
            if version > FORMAT:
                raise ArtifactError(
                    f"{source}: manifest format {version} is newer than this version reads ({FORMAT}); "
                    "upgrade, in the clone: git pull && pip install ."
                )
            return decode_json(text, cls)
        except InputError as error:
            raise ArtifactError(
                f"{source}: its manifest is damaged ({error}); export it again: cunet-deploy export CKPT -o DIR"
            ) from error
