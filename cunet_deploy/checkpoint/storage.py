"""Checkpoints: trained weights with the configuration that made them.

A file written by ``torch.save`` holding plain containers and tensors only; it is read with ``weights_only=True``, so
reading one never runs code.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cunet_deploy import __version__
from cunet_deploy._files import atomic_path
from cunet_deploy.config import Config, QuantConfig, parse_config
from cunet_deploy.errors import ArtifactError, CunetError, InputError, UntrustedError
from cunet_deploy.geometry import CropRule
from cunet_deploy.heatmaps import Decoder
from cunet_deploy.manifest import Manifest
from cunet_deploy.model.graph import Graph, fold
from cunet_deploy.model.networks import NETWORKS, build_graph, build_network
from cunet_deploy.quantize.floats import run_float
from cunet_deploy.quantize.formats import format_of, weight_formats
from cunet_deploy.quantize.groups import activation_groups
from cunet_deploy.quantize.network import QuantizedCUNet
from cunet_deploy.quantize.reference import run_integer

__all__ = [
    "Checkpoint",
    "TorchSession",
    "float_model",
    "load_checkpoint",
    "make_manifest",
    "normalize",
    "open_torch_session",
    "read_tensors",
    "save_checkpoint",
]

FORMAT = 1
OPSET = 17
Kind = Literal["float", "quantized"]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Trained weights and all that is needed to use them.

    Attributes:
        kind: "float" holds the state of a `CUNet`, "quantized" that of a `QuantizedCUNet` with the last head only.
        config: how it was trained.
        state: the tensors.
        zero_points: of the signed activation groups of a quantized network.
        min_score: mean landmark score from which an object counts as found.
    """

    kind: Kind
    config: Config
    state: dict[str, Tensor]
    zero_points: dict[str, int] = field(default_factory=dict)
    min_score: float = 0.3

    @property
    def graph(self) -> Graph:
        """The network at inference, with the last head only."""
        return build_graph(self.config.model, len(self.config.landmarks))

    @property
    def checksum(self) -> str:
        """SHA-256 of the weights and zero points; the file's own bytes hang on the torch version."""
        digest = hashlib.sha256(self.kind.encode())
        for name in sorted(self.state):
            values = self.state[name].detach().cpu().contiguous().numpy()
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(values.tobytes())
        if self.zero_points:
            digest.update(repr(sorted(self.zero_points.items())).encode())
        return digest.hexdigest()

    def folded(self) -> dict[str, Tensor]:
        """Float weights of `graph`, every BN folded.

        Raises:
            InputError: the checkpoint is quantized.
        """
        if self.kind != "float":
            raise InputError("the checkpoint is quantized already; a float one is needed here")
        return fold(self.graph, self.state)

    def quantized_network(self) -> QuantizedCUNet:
        """The network of a quantized checkpoint, in evaluation mode."""
        network = QuantizedCUNet(self.graph, self.config.quant, self.zero_points)
        network.load_state_dict({name: self.state[name] for name in network.state_dict()})
        return network.eval()

    def first_unets(self, count: int) -> Checkpoint:
        """The first U-Nets alone: smaller and faster; each supervised U-Net is a network of its own.

        Raises:
            InputError: there are not so many, or that one was not supervised.
        """
        model = self.config.model
        if not NETWORKS[model.kind].has_prefixes or model.passes > 1:
            raise InputError("--unets: only a CU-Net of one pass can be cut behind a U-Net")
        if not 1 <= count <= model.num_unets or count - 1 not in model.anchors:
            choices = ", ".join(str(anchor + 1) for anchor in model.anchors)
            raise InputError(f"--unets {count}: the supervised U-Nets of this checkpoint are {choices}")
        cut = replace(model, num_unets=count, order=min(model.order, count - 1), num_losses=1)
        config = replace(self.config, model=cut)
        graph = build_graph(cut, len(config.landmarks))
        wanted = (
            build_network(cut, len(config.landmarks)).state_dict()
            if self.kind == "float"
            else QuantizedCUNet(graph, config.quant, self.zero_points).state_dict()
        )
        # Tensors that only meet behind the cut share a scale in the whole network and have one each in the first part.
        whole = activation_groups(build_graph(model, len(config.landmarks), all_heads=True)).of
        sources = {name: _source(name, self.state, whole) for name in wanted}
        if any(source not in self.state for source in sources.values()):
            raise InputError(
                f"--unets {count}: the checkpoint has lost the heads of its earlier U-Nets; export the float "
                "checkpoint, or train again"
            )
        state = {name: self.state[source] for name, source in sources.items()}
        groups = sorted(set(activation_groups(graph).of.values())) if self.zero_points else []
        zero_points = {group: self.zero_points[whole[group]] for group in groups}
        return Checkpoint(self.kind, config, state, zero_points, self.min_score)

    @classmethod
    def of_float(cls, config: Config, model: nn.Module) -> Checkpoint:
        """A checkpoint of a `CUNet`."""
        return cls("float", config, _copy(model.state_dict()))

    @classmethod
    def of_quantized(cls, config: Config, network: QuantizedCUNet) -> Checkpoint:
        """A checkpoint of a quantized network, its learned scales frozen."""
        network = copy.deepcopy(network)
        network.set_weight_format(config.quant.weights, fit_scales=True)
        network.freeze_scales()
        return cls("quantized", config, _copy(network.state_dict()), dict(network.zero_points))

    def with_ranges(self, ranges: Mapping[str, tuple[float, float]], quant: QuantConfig) -> Checkpoint:
        """Post-training quantization of a float checkpoint with calibrated activation ranges."""
        network = QuantizedCUNet.from_float(self.graph, self.folded(), dict(ranges), quant)
        return Checkpoint.of_quantized(replace(self.config, quant=quant), network)


def _source(name: str, state: Mapping[str, Tensor], groups: Mapping[str, str]) -> str:
    """Where a tensor of the first U-Nets is in the state of the whole network."""
    if name in state:
        return name
    kind, _, tensor = name.partition(".")
    return f"{kind}.{groups.get(tensor.replace('/', '.'), tensor).replace('.', '/')}"


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}


def save_checkpoint(checkpoint: Checkpoint, path: Path, *, overwrite: bool = False) -> None:
    """Write a checkpoint; the file appears whole or not at all."""
    table = {
        "format": FORMAT,
        "producer": f"cunet-deploy {__version__}",
        "kind": checkpoint.kind,
        "config": checkpoint.config.to_dict(),
        "state": checkpoint.state,
        "zero_points": checkpoint.zero_points,
        "min_score": checkpoint.min_score,
    }
    with atomic_path(path, overwrite=overwrite) as temporary:
        torch.save(table, temporary)


def read_tensors(path: Path, what: str) -> Any:
    """Read a file of ``torch.save`` that holds plain containers and tensors, without running code of its maker.

    Args:
        path: the file.
        what: named in errors, for example "checkpoint".

    Raises:
        InputError: the file is missing or is something else.
        UntrustedError: it is a pickle that asks for code.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a {what} (.pt)") from error
    if not head:
        raise InputError(f"{path}: is empty; expected a {what} (.pt) written by cunet-deploy train")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # said in our own words below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # A bare pickle, or a complaint about more than a byte that is no pickle's: it asks for code or classes.
        text = str(error)
        complaint = "WeightsUnpickler error" in text and "Unsupported operand" not in text
        complaint = complaint or "unsupported GLOBAL" in text  # a module that torch blocks whatever is asked of it
        if complaint or head.startswith(pickle.PROTO):
            raise UntrustedError(
                f"{path}: refused: it is a pickle that asks to run code, which no {what} of cunet-deploy does; "
                "nothing was executed. Get the file from its maker again or train your own"
            ) from error
        raise InputError(f"{path}: is not a {what}; expected a .pt file written by cunet-deploy train") from error
    except Exception as error:
        raise InputError(
            f"{path}: is not a {what} or is cut off ({_first_line(error)}); copy it again or train again"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: the file is missing, cut off or not a checkpoint.
        UntrustedError: it is a pickle that asks for code.
        ArtifactError: it was written by a newer version, or its tensors do not fit its configuration.
    """
    table = read_tensors(path, "checkpoint")
    if not isinstance(table, dict) or "state" not in table or "config" not in table or "kind" not in table:
        raise InputError(f"{path}: is a torch file but not a checkpoint; expected one written by cunet-deploy train")
    try:
        if int(table.get("format", 0)) > FORMAT:
            raise ArtifactError(f"format {table['format']} is newer than {FORMAT}: pip install -U cunet-deploy")
        checkpoint = Checkpoint(
            table["kind"],
            parse_config(table["config"]),
            dict(table["state"]),
            {str(name): int(value) for name, value in table["zero_points"].items()},
            float(table["min_score"]),
        )
        _check_fit(checkpoint)
    except (CunetError, RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArtifactError(
            f"{path}: its weights do not fit its configuration ({_first_line(error)}); train or convert it again"
        ) from error
    return checkpoint


def _check_fit(checkpoint: Checkpoint) -> None:
    for name, value in checkpoint.state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ValueError(f"{name} holds a number that is not finite")
    if checkpoint.kind == "quantized":
        checkpoint.quantized_network()
    elif checkpoint.kind == "float":
        float_model(checkpoint)
    else:
        raise ValueError(f"unknown kind {checkpoint.kind!r}")


def float_model(checkpoint: Checkpoint) -> nn.Module:
    """The network of a float checkpoint, in evaluation mode."""
    model = build_network(checkpoint.config.model, len(checkpoint.config.landmarks))
    model.load_state_dict(checkpoint.state)
    return model.eval()


def make_manifest(checkpoint: Checkpoint) -> Manifest:
    """What a model made from this checkpoint says of itself."""
    config, is_float = checkpoint.config, checkpoint.kind == "float"
    return Manifest(
        name=config.name,
        skeleton=config.landmarks,
        crop=CropRule(config.crop.size, config.crop.padding),
        stride=config.model.stride,
        decoder=Decoder(config.heatmap.radius, config.heatmap.blur),
        weight_bits=32 if is_float else _weight_bits(checkpoint),
        activation_bits=32 if is_float else config.quant.activation_bits,
        min_score=checkpoint.min_score,
        licence=config.data.licence,
        trained_on=config.data.train,
        opset=OPSET,
        producer=f"cunet-deploy {__version__}",
        checkpoint=checkpoint.checksum,
        reduced_range=not is_float and _has_reduced_range(checkpoint),
        boxes=config.boxes.code if config.finds_boxes else None,
        detector=config.detector,
    )


def _has_reduced_range(checkpoint: Checkpoint) -> bool:
    """Whether no weight of a convolution needs more than 7 bits. Affine nodes have one product a channel to add."""
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


def normalize(images: NDArray[np.uint8]) -> Tensor:
    """(B, S, S, 3) uint8 crops to the (B, 3, S, S) float32 tensor that the network computes on."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 128) / 128


class TorchSession:
    """A checkpoint behind the `Session` protocol: the reference that exported models are compared with.

    Args:
        checkpoint: what to run.
        exact: run a quantized network on integers, as a correct runtime does; otherwise on fake-quantized float32,
            as it was trained. Both round the same numbers, but float32 sums can fall on the other side of a half.
    """

    def __init__(self, checkpoint: Checkpoint, *, exact: bool = True) -> None:
        self.checkpoint = checkpoint
        self._manifest = make_manifest(checkpoint)
        self._exact = exact
        self._graph = checkpoint.graph
        self._folded = checkpoint.folded() if checkpoint.kind == "float" else {}
        self._network = checkpoint.quantized_network() if checkpoint.kind == "quantized" else None

    @property
    def manifest(self) -> Manifest:
        """What the network expects and returns."""
        return self._manifest

    @property
    def backend(self) -> str:
        """What runs it."""
        return f"torch {torch.__version__}"

    @torch.inference_mode()
    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, size, size, 3) uint8 BGR crops to (B, K, map_size, map_size) float32 heatmaps."""
        if self._network is None:
            maps = run_float(self._graph, self._folded, normalize(images))
        elif self._exact:
            maps = run_integer(self._network, torch.from_numpy(images).permute(0, 3, 1, 2))
        else:
            maps = self._network(normalize(images))
        return np.asarray(maps[-1].numpy(), np.float32)

    def close(self) -> None:
        """Nothing to release."""


def open_torch_session(path: Path) -> TorchSession:
    """A session that runs a checkpoint in torch; raises as `load_checkpoint`."""
    return TorchSession(load_checkpoint(path))
