"""A checkpoint of the authors as a checkpoint of this package.

The architecture is read from the shapes. Both generations of the authors' code are known: that for PyTorch 0.4 and the
one before, whose fused blocks spell the same tensors differently.

The authors feed RGB in [0, 1], this package's runtime BGR as (image - 128) / 128. The difference is linear, so the stem
takes it: its input channels are reversed, its weights scaled by 128 / 255, and what the offset adds to every output
moves into the mean of its batch normalization. The converted stem computes what the authors' does, with one exception:
where its 7x7 window leaves the input, the authors' sees black and the converted one grey 128, as this package's
networks do everywhere. That reaches the outermost cells of the stem's output, one on each side, and from there the
U-Nets in a small way. The part of a crop that leaves the photo is grey instead of black, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cunet_deploy.checkpoint.legacy.files import read_state
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.config import Config, DataConfig, HeatmapConfig, ModelConfig
from cunet_deploy.errors import ConfigError, InputError
from cunet_deploy.geometry import CropRule
from cunet_deploy.model.cunet import CUNet
from cunet_deploy.skeletons import IBUG68, MPII16

__all__ = ["PADDING", "adapt_stem", "convert_checkpoint", "infer_architecture", "legacy_name", "translate"]

PADDING = 1.25
"""Side of the crop divided by the longer side of the tight box.

The authors cut 1.25 times the height that MPII states for a person, and 1.1 times the box of a face detector whose
boxes they did not publish. Their training varied the side from 0.71 to 1.41 times that.
"""

SIZE = 256
HEATMAP = HeatmapConfig(sigma=2.12, radius=2, foreground_weight=0.0)
"""The authors' target is exp(-d^2 / 9), cut off at 3 cells, and their loss the plain mean of squares."""

_DATA = {68: (IBUG68.name, "300w"), 16: (MPII16.name, "mpii")}
_BLOCKS = {"down": "hg.down_blocks", "up": "hg.up_blocks", "neck": "hg.neck_block"}
_OLDER_SPELLING = (
    (".bottleneck.norm_", ".norm1."),
    (".bottleneck.conv_", ".conv1."),
    (".norm.2.", ".norm2."),
    (".conv.2.", ".conv2."),
    (".norm_", ".adapter_norm."),
    (".conv_", ".adapter_conv."),
)
_COUNTER = "num_batches_tracked"  # of batch normalization; PyTorch before 0.4.1 had none and inference needs none


def convert_checkpoint(
    path: Path, *, name: str = "", padding: float = PADDING, losses: int = 0, licence: str = "unknown"
) -> Checkpoint:
    """Read a checkpoint of the authors.

    Args:
        path: the ``.pth.tar`` file.
        name: of the model; empty: that of the file.
        padding: see `PADDING`.
        losses: how many U-Nets were supervised; 0: those whose heads were trained, which the statistics show.
        licence: of the weights and the data they saw.

    Raises:
        InputError: the file is missing, cut off or something else, or its tensors make no CU-Net.
        UntrustedError: it asks for code.
    """
    state = read_state(path)
    try:
        model, landmarks = infer_architecture(state)
        skeleton, data = _skeleton_and_data(landmarks)
        weights = translate(state, model, landmarks)
        config = Config(
            name or _plain_name(path),
            skeleton,
            DataConfig(train=(data,), licence=licence),
            model=replace(model, num_losses=losses or _trained_heads(weights, model)),
            crop=CropRule(SIZE, padding),
            heatmap=HEATMAP,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return Checkpoint("float", config, adapt_stem(weights))


def _plain_name(path: Path) -> str:
    name = path.name
    for suffix in (".tar", ".pth", ".pt"):
        name = name.removesuffix(suffix)
    return name


def _skeleton_and_data(landmarks: int) -> tuple[str, str]:
    if landmarks not in _DATA:
        known = " and ".join(f"{count} ({skeleton})" for count, (skeleton, _) in _DATA.items())
        raise InputError(f"has {landmarks} landmarks; {known} are supported")
    return _DATA[landmarks]


def infer_architecture(state: Mapping[str, Tensor]) -> tuple[ModelConfig, int]:
    """Infer the network of these tensors, by the authors' names, and its number of landmarks.

    Raises:
        InputError: the tensors that tell are missing, or tell of no CU-Net.
    """
    state = {_modern_name(name): value for name, value in state.items()}
    channels = _shape(state, "features.conv0.weight")[0]
    landmarks = _shape(state, "linears.0.conv.weight")[0]
    growth, width = _shape(state, "hg.neck_block.layers.0.conv2.weight")[:2]
    num_unets, depth = _count(state, "linears.{}.conv.weight"), _count(state, "hg.down_blocks.{}.layers.0.conv2.weight")
    seen = _shape(state, f"hg.neck_block.layers.{num_unets - 1}.conv1.weight")[1]  # C and K dense outputs
    try:
        model = ModelConfig(
            num_unets=num_unets,
            order=(seen - channels) // max(growth, 1),
            channels=channels,
            growth=growth,
            bottleneck=width // max(growth, 1),
            depth=depth,
        )
    except ConfigError as error:
        raise InputError(f"its tensors make no CU-Net: {error}") from error
    return model, landmarks


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    count = 0
    while pattern.format(count) in state:
        count += 1
    return count


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state or state[name].ndim != 4:
        raise InputError(f"lacks {name}, a convolution; expected a CU-Net trained with the authors' code")
    return tuple(state[name].shape)


def translate(state: Mapping[str, Tensor], model: ModelConfig, landmarks: int) -> dict[str, Tensor]:
    """The state of a `CUNet` that computes what the authors' network does, on images as the authors feed them.

    Args:
        state: by the authors' names, of either spelling.
        model: the architecture.
        landmarks: heatmaps per head.

    Raises:
        InputError: a tensor is missing, is one too many, has another shape or holds a number that is not finite.
    """
    state = {_modern_name(name): value for name, value in state.items() if not name.endswith(_COUNTER)}
    with torch.device("meta"):  # shapes only
        wanted = CUNet(model, landmarks).state_dict()
    sources = {name: legacy_name(name) for name in wanted if not name.endswith(_COUNTER)}
    _complain("lacks", [source for source in sources.values() if source not in state])
    _complain("holds, besides the network it describes,", sorted(state.keys() - sources.values()))
    translated = {}
    for name, value in wanted.items():
        if name not in sources:
            translated[name] = torch.zeros(value.shape, dtype=value.dtype)
            continue
        source = state[sources[name]]
        if source.shape != value.shape:
            found, expected = (" x ".join(map(str, shape)) for shape in (source.shape, value.shape))
            raise InputError(f"{sources[name]} is {found}; expected {expected} in {_describe(model)}")
        if not torch.isfinite(source).all():
            raise InputError(f"{sources[name]} holds a number that is not finite; the training had failed")
        translated[name] = source.detach().to(torch.float32, copy=True).contiguous()
    return translated


def _complain(what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 1} more tensors" if len(names) > 1 else ""
        raise InputError(f"{what} {names[0]}{more}; expected a CU-Net trained with the authors' code")


def _describe(model: ModelConfig) -> str:
    return f"a CU-Net of {model.num_unets} U-Nets and order {model.order}"


def legacy_name(name: str) -> str:
    """The authors' name, in their newer spelling, for a tensor of `CUNet`."""
    *where, kind, tensor = name.split(".")
    match where:
        case ["stem"]:
            return f"features.{kind}0.{tensor}"
        case ["heads", i]:
            return f"linears.{i}.{kind}.{tensor}"
        case ["inter", i]:
            return f"intermedia.adapters.{i}.adapter_{kind}.{tensor}"
        case [place, *scale, "units", i, part]:
            block = ".".join([_BLOCKS[place], *scale])
            return f"{block}.layers.{i}.{kind}{1 if part == 'squeeze' else 2}.{tensor}"
        case [place, *scale, side, i]:
            block = ".".join([_BLOCKS[place], *scale])
            return f"{block}.adapters_{side}.{i}.adapter_{kind}.{tensor}"
    raise ValueError(f"{name}: no tensor of a CU-Net with block 'pre' and stem 'conv7'")


def _modern_name(name: str) -> str:
    for older, newer in _OLDER_SPELLING:
        name = name.replace(older, newer)
    return name


def _trained_heads(weights: Mapping[str, Tensor], model: ModelConfig) -> int:
    """Number of evenly spread losses that explains which heads left their initial statistics; 0 (all) if none does."""
    trained = tuple(
        i
        for i in range(model.num_unets)
        if weights[f"heads.{i}.norm.running_mean"].any() or (weights[f"heads.{i}.norm.running_var"] != 1).any()
    )
    counts = range(1, model.num_unets)
    return next((count for count in counts if replace(model, num_losses=count).anchors == trained), 0)


def adapt_stem(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a `CUNet` on RGB in [0, 1] as one on BGR, (image - 128) / 128; see the module for its border."""
    filters = weights["stem.conv.weight"].double() * (128 / 255)
    offset = filters.sum(dim=(1, 2, 3))  # (image - 128) / 128 is zero where the image is 128
    return {
        **weights,
        "stem.conv.weight": filters.flip(1).float(),
        "stem.norm.running_mean": (weights["stem.norm.running_mean"].double() - offset).float(),
    }
