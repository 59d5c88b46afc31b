"""Checkpoints: trained weights with the configuration that made them.

A file written by ``torch.save`` holding plain containers and tensors only; it is read with ``weights_only=True``, so
reading one never runs code.
"""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cunet_deploy import __version__
from cunet_deploy._decode import convert
from cunet_deploy._files import write_bytes_atomic
from cunet_deploy.checkpoint.scores import ScoreCalibration
from cunet_deploy.config import Config, QuantConfig, parse_config
from cunet_deploy.errors import ArtifactError, CunetError, InputError, UntrustedError
from cunet_deploy.model.graph import Graph, fold
from cunet_deploy.model.networks import NETWORKS, build_graph, build_network
from cunet_deploy.quantize.groups import activation_groups
from cunet_deploy.quantize.network import QuantizedNetwork
from cunet_deploy.zoo import bundle_folder

__all__ = ["Checkpoint", "float_model", "load_checkpoint", "read_tensors", "save_checkpoint", "write_tensors"]

FORMAT = 1
_NAMES = ("float.pt", "quantized.pt", "checkpoint.pt")
"""Names of checkpoints in folders of runs and of released models."""
_SCORES = [item.name for item in fields(ScoreCalibration)]
Kind = Literal["float", "quantized"]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Trained weights and all that is needed to use them.

    Attributes:
        kind: "float" holds the state of a `CUNet`, "quantized" that of a `QuantizedNetwork` with the last head only.
        config: how it was trained.
        state: the tensors.
        zero_points: of the signed activation groups of a quantized network.
        scores: score thresholds and score curve.
    """

    kind: Kind
    config: Config
    state: dict[str, Tensor]
    zero_points: dict[str, int] = field(default_factory=dict)
    scores: ScoreCalibration = field(default_factory=ScoreCalibration)

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
            raise InputError("the checkpoint is quantized already; name a float one (float.pt)")
        return fold(self.graph, self.state)

    def quantized_network(self) -> QuantizedNetwork:
        """The network of a quantized checkpoint, in evaluation mode."""
        network = QuantizedNetwork(self.graph, self.config.quant, self.zero_points)
        network.load_state_dict({name: self.state[name] for name in network.state_dict()})
        return network.eval()

    def first_unets(self, count: int) -> Checkpoint:
        """The first U-Nets alone: smaller and faster; each supervised U-Net is a network of its own.

        Raises:
            InputError: there are not so many, or that one was not supervised.
        """
        model = self.config.model
        if not NETWORKS[model.kind].has_prefixes or model.passes > 1:
            raise InputError("only a CU-Net of one pass can be cut behind a U-Net; export the whole network")
        if not 1 <= count <= model.num_unets or count - 1 not in model.anchors:
            choices = ", ".join(str(anchor + 1) for anchor in model.anchors)
            raise InputError(f"the first {count} U-Nets are no network; cut behind a supervised one: {choices}")
        cut = replace(model, num_unets=count, order=min(model.order, count - 1), num_losses=1)
        config = replace(self.config, model=cut)
        graph = build_graph(cut, len(config.landmarks))
        wanted = (
            build_network(cut, len(config.landmarks)).state_dict()
            if self.kind == "float"
            else QuantizedNetwork(graph, config.quant, self.zero_points).state_dict()
        )
        # Tensors that only meet behind the cut share a scale in the whole network and have one each in the first part.
        whole = activation_groups(build_graph(model, len(config.landmarks), all_heads=True)).of
        sources = {name: _source(name, self.state, whole) for name in wanted}
        if any(source not in self.state for source in sources.values()):
            raise InputError(
                f"the checkpoint has lost the heads of its earlier U-Nets and cannot be cut behind U-Net {count}; "
                "export the float checkpoint, or train again"
            )
        state = {name: self.state[source] for name, source in sources.items()}
        groups = sorted(set(activation_groups(graph).of.values())) if self.zero_points else []
        zero_points = {group: self.zero_points[whole[group]] for group in groups}
        return Checkpoint(self.kind, config, state, zero_points, self.scores)

    @classmethod
    def of_float(cls, config: Config, model: nn.Module) -> Checkpoint:
        """A checkpoint of a `CUNet`."""
        return cls("float", config, _copy(model.state_dict()))

    @classmethod
    def of_quantized(cls, config: Config, network: QuantizedNetwork) -> Checkpoint:
        """A checkpoint of a quantized network, its learned scales frozen."""
        network = copy.deepcopy(network)
        network.set_weight_format(config.quant.weights, fit_scales=True)
        network.freeze_scales()
        return cls("quantized", config, _copy(network.state_dict()), dict(network.zero_points))

    def with_ranges(self, ranges: Mapping[str, tuple[float, float]], quant: QuantConfig) -> Checkpoint:
        """Post-training quantization of a float checkpoint with calibrated activation ranges."""
        network = QuantizedNetwork.from_float(self.graph, self.folded(), dict(ranges), quant)
        return Checkpoint.of_quantized(replace(self.config, quant=quant), network)


def _source(name: str, state: Mapping[str, Tensor], groups: Mapping[str, str]) -> str:
    """Name of a tensor of the first U-Nets in the state of the whole network."""
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
        **checkpoint.scores.to_dict(),
    }
    write_tensors(table, path, overwrite=overwrite)


def write_tensors(table: Mapping[str, Any], path: Path, *, overwrite: bool) -> None:
    """Write plain containers and tensors completely or not at all, for `read_tensors`.

    Raises:
        CunetError: the file cannot be written. An earlier one stays as it was.
    """
    buffer = io.BytesIO()  # given a path, torch raises a RuntimeError that does not say why it cannot be written
    torch.save(table, buffer)
    write_bytes_atomic(path, buffer.getvalue(), overwrite=overwrite)


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
        folder = bundle_folder(path)
        here = [str(folder / name) for name in _NAMES if (folder / name).is_file()]
        if here:
            kind = "folder" if folder == path else "released model"
            raise InputError(f"{path}: is a {kind}, not a {what}; give {' or '.join(here)}") from error
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
    version = table.get("format", 0)
    if isinstance(version, int) and version > FORMAT:
        raise ArtifactError(
            f"{path}: checkpoint format {version} is newer than this version reads ({FORMAT}); "
            "upgrade, in the clone: git pull && pip install ."
        )
    try:
        checkpoint = Checkpoint(
            table["kind"],
            parse_config(table["config"]),
            dict(table["state"]),
            {str(name): int(value) for name, value in table["zero_points"].items()},
            convert({name: table[name] for name in _SCORES if name in table}, ScoreCalibration, "scores"),
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
