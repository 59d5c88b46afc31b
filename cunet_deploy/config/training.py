"""Settings of the two phases of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from cunet_deploy._decode import AtLeastZero, Count, Positive, Share, check_fields
from cunet_deploy._decode import check as _check

__all__ = ["WEIGHT_FORMATS", "QuantConfig", "TrainConfig"]


@dataclass(frozen=True)
class TrainConfig:
    """The float phase of training: AdamW with a one-cycle learning rate.

    Attributes:
        epochs: passes over the training photos.
        batch_size: examples per step.
        learning_rate: peak of the cycle.
        weight_decay: of AdamW, on convolution weights only.
        ema_decay: per step, of the averaged weights that are evaluated and saved; 0 turns averaging off.
        precision: of the convolutions of this phase; weights stay float32. "bfloat16" is about 1.5 times faster on CPUs
            that have it, and on GPUs; "float16" is for GPUs without bfloat16, and scales the loss so that small
            gradients do not vanish. In "float32" NVIDIA GPUs multiply in TF32.
        compile: let torch.compile make kernels for this network; takes minutes first, and a C++ compiler.
        memory_efficient: keep less for the backward pass and compute it again: about half the memory, more time. See
            docs/tables.md for what this and ``saved_bits`` bring.
        saved_bits: 8 keeps activations for the backward pass as bytes, a quarter of the memory; 32 as they are. See
            `cunet_deploy.train.activation_compression`.
        coordinate_weight: weight of the landmark error term; see `cunet_deploy.train.loss`.
        distill: weight of the squared distance to the heatmaps of the network that ``train --teacher`` names.
        robust: for labels with mistakes: how much less, from 0 to 1, a label counts that the network itself is sure is
            elsewhere; see `cunet_deploy.train.loss.trust`.
        unlabelled: "ignore" leaves landmarks without a label out of the loss; "empty" teaches that they are nowhere, as
            the authors of the paper did.
        seed: of the initial weights, the order of the examples and their augmentation.
        validate_every: epochs between validations.
    """

    epochs: Count = 60
    batch_size: Annotated[int, Meta(ge=2, le=65536)] = 16
    learning_rate: Positive = 1e-3
    weight_decay: AtLeastZero = 1e-4
    ema_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.998
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    memory_efficient: bool = False
    saved_bits: Literal[8, 32] = 32
    coordinate_weight: AtLeastZero = 0.0
    distill: AtLeastZero = 0.0
    robust: Share = 0.0
    unlabelled: Literal["ignore", "empty"] = "ignore"
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    validate_every: Count = 1

    def __post_init__(self) -> None:
        check_fields(self, "[train]")
        _check(
            not (self.compile and (self.memory_efficient or self.saved_bits == 8)),
            "[train] compile goes with neither memory_efficient nor saved_bits = 8; leave one of them out",
        )


WEIGHT_FORMATS = ("1", "ternary", "2", "3", "4", "5", "6", "7", "8")
"""Formats of weights: binary and ternary with a scale per filter, or uniform steps of 2 to 8 bits."""


@dataclass(frozen=True)
class QuantConfig:
    """The quantized phase of training, which starts from the float weights.

    In the paper's notation QIG(818) is 8-bit inputs, 1-bit weights and 8-bit gradients: ``activation_bits = 8``,
    ``weight_bits = 1``, ``gradient_bits = 8``.

    Attributes:
        weight_bits: of every convolution's weights: 2 to 8 with a learned step per output channel, or 1: binary with
            the mean magnitude of each filter as its scale.
        ternary: with ``weight_bits = 2``: -1, 0 and 1 by the threshold rule of ternary weight networks.
        activation_bits: of every convolution's input, 2 to 8.
        gradient_bits: of the gradients of weights and features, 4 to 16, rounded stochastically; 32 is float. An
            emulation: it shows what such training reaches and is slower than float gradients. Latent weights stay
            float.
        edge_bits: of the weights of the first and last layers (``stem.*`` and ``heads.*``).
        layers: weight format by layer name or pattern, for example ``"down.0.*" = "4"``; see `WEIGHT_FORMATS`.
        progressive: weight formats to pass through on the way, for example ``["8", "4"]``; each has an equal share of
            the epochs, the final one included.
        distill: weight of the squared distance to the float parent's heatmaps in the loss.
        correct_bias: at the end shift biases so that the mean of every channel is the float parent's. Batch
            normalization is folded at this point, so this is what estimating its statistics again comes to.
        weight_decay: of AdamW on the latent weights.
        epochs: passes over the training photos; 0 means none: train float only.
        learning_rate: peak; decays to zero along a cosine.
        calibration_examples: how many training crops set the first scales.
    """

    weight_bits: Annotated[int, Meta(ge=1, le=8)] = 8
    ternary: bool = False
    activation_bits: Annotated[int, Meta(ge=2, le=8)] = 8
    gradient_bits: int = 32
    edge_bits: Annotated[int, Meta(ge=2, le=8)] = 8
    layers: Annotated[dict[str, str], Meta(description='a table of strings, such as "down.0.*" = "4"')] = field(
        default_factory=dict
    )
    progressive: tuple[str, ...] = ()
    distill: AtLeastZero = 0.0
    correct_bias: bool = False
    weight_decay: AtLeastZero = 0.0
    epochs: Annotated[int, Meta(ge=0, le=10**6)] = 0
    learning_rate: Positive = 1e-4
    calibration_examples: Count = 256

    def __post_init__(self) -> None:
        check_fields(self, "[quant]")
        _check(
            self.gradient_bits == 32 or 4 <= self.gradient_bits <= 16,
            f"[quant] gradient_bits must be from 4 to 16, or 32 for float, got {self.gradient_bits}",
        )
        _check(not self.ternary or self.weight_bits == 2, "[quant] ternary needs weight_bits = 2")
        for where, names in (("layers", self.layers.values()), ("progressive", self.progressive)):
            for name in names:
                _check(
                    name in WEIGHT_FORMATS,
                    f"[quant] {where}: weight format {name!r} is unknown; expected one of {', '.join(WEIGHT_FORMATS)}",
                )
        least = len(self.progressive) + 1
        _check(
            self.epochs == 0 or self.epochs >= least,
            f"[quant] epochs must be at least {least}, one for each weight format on the way, got {self.epochs}",
        )

    @property
    def weights(self) -> str:
        """The weight format of layers that are neither first nor last nor named in ``layers``."""
        return "ternary" if self.ternary else str(self.weight_bits)
