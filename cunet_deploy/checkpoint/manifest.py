"""The manifest of the model that a checkpoint becomes."""

from __future__ import annotations

from collections import Counter

from cunet_deploy import __version__
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.manifest import Manifest
from cunet_deploy.quantize.formats import format_of, weight_formats

__all__ = ["make_manifest"]

OPSET = 17


def make_manifest(checkpoint: Checkpoint) -> Manifest:
    """Make the manifest of a model exported from this checkpoint."""
    config, is_float = checkpoint.config, checkpoint.kind == "float"
    return Manifest(
        name=config.name,
        skeleton=config.landmarks,
        crop=config.crop,
        stride=config.model.stride,
        decoder=config.heatmap.decoder,
        weight_bits=32 if is_float else _weight_bits(checkpoint),
        activation_bits=32 if is_float else config.quant.activation_bits,
        min_score=checkpoint.scores.min_score,
        licence=config.data.licence,
        trained_on=tuple(source.path for source in config.data.parts),
        opset=OPSET,
        producer=f"cunet-deploy {__version__}",
        checkpoint=checkpoint.checksum,
        reduced_range=not is_float and _has_reduced_range(checkpoint),
        boxes=config.boxes.code if config.finds_boxes else None,
        detector=config.detector,
        keep_score=checkpoint.scores.keep_score,
        visible_score=checkpoint.scores.shown_visible_score,
        score_curve=checkpoint.scores.score_curve,
    )


def _has_reduced_range(checkpoint: Checkpoint) -> bool:
    """Return whether 7 bits hold all weights of convolutions. Affine nodes have one product a channel to add."""
    formats = weight_formats(checkpoint.graph.convolutions, checkpoint.config.quant).values()
    return max(item.high for item in formats) <= format_of("7").high


def _weight_bits(checkpoint: Checkpoint) -> int:
    """Bits of most weights of a quantized checkpoint."""
    quant = checkpoint.config.quant
    if not quant.layers:
        return quant.weight_bits
    counts: Counter[int] = Counter()
    for name, weight_format in weight_formats(checkpoint.graph.owners, quant).items():
        bits = 2 if weight_format.name == "ternary" else int(weight_format.name)
        counts[bits] += checkpoint.state[f"weights.{name.replace('.', '/')}"].numel()
    return counts.most_common(1)[0][0]
