"""Sensitivity of each layer to fewer bits, measured in landmarks, and the best bits for a given file size.

Nothing is trained here: the weights of one convolution at a time are rounded to a format, all others have 8 bits, and
the landmarks are compared with those of everything at 8 bit on the same labelled photos.

What one layer adds to the error is mostly smaller than what so few photos can tell from chance, and choosing by chance
adds up. How far the landmarks move can be told from one photo. Bits are chosen by that: where a landmark that is off by
e moves by d in a random direction, its error grows by d^2 / 4e on average, and the squares of independent moves add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cunet_deploy.checkpoint.manifest import make_manifest
from cunet_deploy.checkpoint.session import normalize
from cunet_deploy.checkpoint.storage import Checkpoint
from cunet_deploy.config import QuantConfig
from cunet_deploy.data.batches import Batch, plain_batches
from cunet_deploy.data.examples import PhotoCache
from cunet_deploy.errors import InputError
from cunet_deploy.export.crops import Photos
from cunet_deploy.export.progress import ResumeFile
from cunet_deploy.export.targets.cpu import write_model
from cunet_deploy.metrics import Estimate, normalized_errors, normalizer_lengths, object_errors, paired_difference
from cunet_deploy.model.device import CPU, exact_device
from cunet_deploy.model.graph import Graph, Node
from cunet_deploy.quantize.floats import Ranges
from cunet_deploy.quantize.formats import format_of, is_edge
from cunet_deploy.quantize.network import QuantizedNetwork
from cunet_deploy.quantize.sensitivity import Choice, allocate, weight_bytes

__all__ = ["Measurement", "Plan", "Prober", "bits_toml"]

BATCH, EIGHT_BITS = 8, "8"
Choices = Mapping[str, Sequence[Choice]]


@dataclass(frozen=True, eq=False)
class Measurement:
    """Measurement on N objects.

    Attributes:
        layers: the L convolutions, in the order of the network.
        formats: the F weight formats that were tried.
        counts: (L,) weights of each layer.
        baseline: (N,) NME of each object with everything at 8 bit.
        errors: (L, F, N) NME of each object with one layer in one format and all others at 8 bit.
        moves: (L, F, N) mean squared distance by which that moves the landmarks, in squared units of the normalizer.
    """

    layers: tuple[str, ...]
    formats: tuple[str, ...]
    counts: tuple[int, ...]
    baseline: NDArray[np.float64]
    errors: NDArray[np.float64]
    moves: NDArray[np.float64]

    @property
    def costs(self) -> NDArray[np.float64]:
        """(L, F) percentage points of NME that the moves of the landmarks stand for."""
        return np.asarray(100 * np.nanmean(self.moves, axis=2) / (4 * np.nanmean(self.baseline)))

    @property
    def nme_percent(self) -> float:
        """Mean NME with everything at 8 bit."""
        return round(float(100 * np.nanmean(self.baseline)), 6)

    def points(self, layer: str, name: str) -> Estimate:
        """Increase of the NME by a format of a layer, in percentage points, paired over the objects."""
        errors = self.errors[self.layers.index(layer), self.formats.index(name)]
        return paired_difference(errors, self.baseline).scaled(100)

    def moved_percent(self, layer: str, name: str) -> float:
        """Root mean square of the moves that a format of a layer makes, in percent of the normalizer."""
        return float(100 * np.sqrt(np.nanmean(self.moves[self.layers.index(layer), self.formats.index(name)])))

    def choices(self) -> dict[str, list[Choice]]:
        """Formats of each layer, 8 bits included, with their cost in percentage points."""
        return {
            layer: [Choice(EIGHT_BITS, weight_bytes(count, EIGHT_BITS), 0.0)]
            + [
                Choice(name, weight_bytes(count, name), float(cost))
                for name, cost in zip(self.formats, row, strict=True)
            ]
            for layer, count, row in zip(self.layers, self.counts, self.costs, strict=True)
        }

    def by_sensitivity(self) -> list[str]:
        """Layers, those that mind the tried formats most first."""
        return [self.layers[index] for index in np.argsort(-self.costs.mean(axis=1), kind="stable")]


@dataclass(frozen=True)
class Plan:
    """Bits by layer within a budget.

    Attributes:
        formats: of each layer.
        bytes: of model.onnx with them.
        expected: what they add to the NME in percentage points, by how far each layer alone moves the landmarks.
        measured: what they add together, on the same objects.
    """

    formats: dict[str, str]
    bytes: int
    expected: float
    measured: Estimate


class Prober:
    """A float checkpoint, quantized in many ways and run on labelled photos.

    Args:
        checkpoint: the float one.
        ranges: of its activations.
        photos: labelled ones.
        device: where the networks run.

    Raises:
        InputError: the checkpoint is quantized, or the photos have no labels.
    """

    def __init__(self, checkpoint: Checkpoint, ranges: Ranges, photos: Photos, device: torch.device = CPU) -> None:
        self._device = exact_device(device)
        self.checkpoint, self.ranges, self.photos = checkpoint, ranges, photos
        self.graph = checkpoint.graph
        self._folded = {name: value.to(self._device) for name, value in checkpoint.folded().items()}
        self._manifest = make_manifest(checkpoint)
        self._examples = photos.examples
        self._full = self._network({})

    @property
    def layers(self) -> tuple[str, ...]:
        """The convolutions that have weights of their own, in the order of the network."""
        return tuple(node.output for node in self.graph.owners)

    def measure(
        self,
        formats: Sequence[str],
        *,
        resume: ResumeFile | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> Measurement:
        """Round one layer after the other to each format.

        Args:
            formats: names of weight formats.
            resume: where progress is kept and looked for; the result is the same as without an interruption.
            advance: called with the number of crops run since the last call; the whole is layers x formats x crops.

        Raises:
            InputError: a photo cannot be read, or the progress belongs to something else.
        """
        layers, counts = self.layers, self._counts()
        shape = (len(layers), len(formats), len(self._examples))
        state = _restored(resume, shape)
        done = state["done"]
        if advance is not None:
            advance(int(done.sum()))
        for stop, batch in self._batches(int(done.min())):
            start = stop - len(batch.images)
            values = self._run(self._full, batch)
            points = self._points(values)
            state["baseline"][start:stop] = self._nme(points, batch)
            for row, layer in enumerate(layers):
                for column in (column for column, name in enumerate(formats) if done[row, column] < stop):
                    found = self._points(self._changed(values, layer, formats[column]))
                    state["errors"][row, column, start:stop] = self._nme(found, batch)
                    state["moves"][row, column, start:stop] = self._moves(found, points, batch)
                    done[row, column] = stop
                    if advance is not None:
                        advance(stop - start)
                if resume is not None:
                    resume.save(state)
        return Measurement(layers, tuple(formats), counts, state["baseline"], state["errors"], state["moves"])

    def check_budget(self, formats: Sequence[str], budget: int | None) -> None:
        """Find out before a measurement whether a file can be that small; raises as `plan`."""
        if budget is not None:
            self._extremes(formats, budget)

    def plan(self, measurement: Measurement, budget: int | None = None) -> Plan:
        """Formats for a model.onnx of at most ``budget`` bytes.

        Moves do not quite add up as if they were independent. So what costs least by their sum is tried with all
        formats, without the smallest and so on, and beside it one format for all layers but the first and last ones;
        what does best on the objects is taken.

        Args:
            measurement: of this network.
            budget: ``None`` is halfway between the file of 8 bits and that of the smallest formats.

        Raises:
            InputError: no choice of formats makes the file so small.
        """
        choices = measurement.choices()
        full, least = self._extremes(measurement.formats, budget)
        budget = max((full + least) // 2, min(full, least)) if budget is None else budget
        if full <= budget:
            return self._tried(measurement, dict.fromkeys(choices, EIGHT_BITS))
        candidates = [self._fitting(_without_smaller(choices, name), budget) for name in measurement.formats]
        for name in measurement.formats:
            alike = {layer: EIGHT_BITS if is_edge(layer) else name for layer in choices}
            candidates.append(alike if self._file_bytes(alike) <= budget else None)
        distinct = {tuple(formats.items()): formats for formats in candidates if formats is not None}
        return min((self._tried(measurement, formats) for formats in distinct.values()), key=_measured)

    def _extremes(self, formats: Sequence[str], budget: int | None) -> tuple[int, int]:
        """Bytes of model.onnx with 8 bits everywhere, and with the smallest format of each layer."""
        sizes = zip(self.layers, self._counts(), strict=True)
        smallest = {layer: min((EIGHT_BITS, *formats), key=partial(weight_bytes, count)) for layer, count in sizes}
        full, least = self._file_bytes({}), self._file_bytes(smallest)
        if budget is not None and min(full, least) > budget:
            raise InputError(
                f"with these formats model.onnx has {min(full, least)} bytes at least, the budget is {budget}; allow "
                "more, or add smaller formats"
            )
        return full, least

    def _counts(self) -> tuple[int, ...]:
        """Number of weights of each layer."""
        return tuple(self._folded[f"{layer}.weight"].numel() for layer in self.layers)

    def _tried(self, measurement: Measurement, formats: dict[str, str]) -> Plan:
        measured = paired_difference(self._errors(formats), measurement.baseline).scaled(100)
        return Plan(formats, self._file_bytes(formats), _cost(measurement.choices(), formats), measured)

    def _fitting(self, choices: Choices, budget: int) -> dict[str, str] | None:
        """The best formats whose file fits; ``None``: there are none.

        What packing itself takes depends on the formats, so the room for weights is found in turns.
        """
        smallest = _smallest(choices)
        size = self._file_bytes(smallest)
        if size > budget:
            return None
        best, best_room = smallest, _weights(choices, smallest)
        room, tried = best_room + budget - size, [smallest]
        while room > best_room and len(tried) < 20:
            formats = allocate(choices, room)
            if formats in tried:
                break
            tried.append(formats)
            size = self._file_bytes(formats)
            if size <= budget:
                best, best_room = formats, room
                room += budget - size
            else:
                room = min(room + budget - size, _weights(choices, formats) - 1)
        return best

    def _errors(self, formats: Mapping[str, str]) -> NDArray[np.float64]:
        """(N,) NME of each object with these formats."""
        network = self._network(formats)
        return np.concatenate(
            [self._nme(self._points(self._run(network, batch)), batch) for _, batch in self._batches(0)]
        )

    def _batches(self, start: int) -> Iterator[tuple[int, Batch]]:
        """Batches of crops from that object on, each with the index behind its last one."""
        for batch in plain_batches(self._examples[start:], self.photos.rule, PhotoCache(0), size=BATCH):
            start += len(batch.images)
            yield start, batch

    @torch.no_grad()
    def _network(self, formats: Mapping[str, str]) -> QuantizedNetwork:
        config = QuantConfig(layers=dict(formats))
        return QuantizedNetwork.from_float(self.graph, self._folded, self.ranges, config).eval().to(self._device)

    @torch.no_grad()
    def _run(self, network: QuantizedNetwork, batch: Batch) -> dict[str, Tensor]:
        """Every tensor of the network: integers less their zero points."""
        scale = network.activation_qparams(self.graph.input)[0]
        values = {self.graph.input: normalize(batch.images, self._device) / scale}
        for node in self.graph.nodes:
            values[node.output] = network.compute(node, [values[x] for x in node.inputs])
        return values

    @torch.no_grad()
    def _changed(self, values: Mapping[str, Tensor], layer: str, name: str) -> dict[str, Tensor]:
        """The tensors with one layer in another format; what is not behind that layer stays as it was."""
        network, changed = self._network({layer: name}), dict(values)
        for node in _behind(self.graph, layer):
            changed[node.output] = network.compute(node, [changed[x] for x in node.inputs])
        return changed

    def _points(self, values: Mapping[str, Tensor]) -> NDArray[np.float64]:
        """(B, K, 2) landmarks in the crops."""
        name = self.graph.outputs[-1]
        scale = self._full.activation_qparams(name)[0]
        maps = np.asarray((values[name] * scale).detach().cpu().numpy(), np.float32)
        return self._manifest.read(maps)[0]

    def _nme(self, points: NDArray[np.float64], batch: Batch) -> NDArray[np.float64]:
        """(B,) NME of each object; a crop is a similar image of the photo, so it is the same as in the photo."""
        return object_errors(normalized_errors(points, batch.points, self._manifest.skeleton))

    def _moves(self, points: NDArray[np.float64], origins: NDArray[np.float64], batch: Batch) -> NDArray[np.float64]:
        """(B,) mean squared distance of the landmarks from where they were, in squared units of the normalizer."""
        lengths = normalizer_lengths(batch.points, self._manifest.skeleton)
        return np.asarray(np.square(points - origins).sum(axis=2).mean(axis=1) / np.square(lengths))

    def _file_bytes(self, formats: Mapping[str, str]) -> int:
        smaller = {layer: name for layer, name in formats.items() if name != EIGHT_BITS}
        return len(write_model(self.checkpoint.with_ranges(self.ranges, QuantConfig(layers=smaller))))


def _behind(graph: Graph, layer: str) -> list[Node]:
    """The nodes that compute something else when the weights of a layer change, in order."""
    nodes: list[Node] = []
    changed: set[str] = set()
    for node in graph.nodes:
        if layer in (node.output, node.shares) or changed.intersection(node.inputs):
            nodes.append(node)
            changed.add(node.output)
    return nodes


def _restored(resume: ResumeFile | None, shape: tuple[int, int, int]) -> dict[str, NDArray[Any]]:
    """The progress of a measurement of (layers, formats, objects); ``done`` says how many objects are through."""
    state: dict[str, NDArray[Any]] = {} if resume is None else dict(resume.load())
    wanted = {"baseline": shape[2:], "errors": shape, "moves": shape, "done": shape[:2]}
    if resume is not None and state and {name: values.shape for name, values in state.items()} != wanted:
        raise InputError(f"{resume.path}: is no progress of this measurement; delete it to begin anew")
    return state or {name: np.zeros(size, np.int64 if name == "done" else np.float64) for name, size in wanted.items()}


def _measured(plan: Plan) -> float:
    return plan.measured.value


def _smallest(choices: Choices) -> dict[str, str]:
    """The format of each layer that takes least."""
    return {layer: min(row, key=lambda choice: choice.bytes).format for layer, row in choices.items()}


def _without_smaller(choices: Choices, name: str) -> Choices:
    """The choices of no fewer bits than a format's."""
    bits = format_of(name).bits
    return {
        layer: [choice for choice in row if format_of(choice.format).bits >= bits] for layer, row in choices.items()
    }


def _weights(choices: Choices, formats: Mapping[str, str]) -> int:
    """Bytes of the weights in these formats."""
    return sum(choice.bytes for layer, row in choices.items() for choice in row if choice.format == formats[layer])


def _cost(choices: Choices, formats: Mapping[str, str]) -> float:
    """Sum of the costs of the single layers in these formats."""
    return sum(choice.cost for layer, row in choices.items() for choice in row if choice.format == formats[layer])


def bits_toml(measurement: Measurement, plan: Plan, command: str) -> str:
    """The file that ``train --bits`` and ``export --bits`` take, with what was measured above the bits."""
    width = max(len(layer) for layer in measurement.layers)
    lines = [
        "# Bits of the weights by layer, for train --bits and export --bits. Written by:",
        f"#     {command}",
        f"# model.onnx has {plan.bytes} bytes. On {len(measurement.baseline)} objects the NME is "
        f"{measurement.nme_percent:.3f} % with everything at 8 bit",
        f"# and {plan.measured.value:+.3f} points with these bits, without training.",
        "#",
        "# What a layer does alone in each format: points of NME, and by how many % of the normalizer landmarks move.",
        f"# {'layer':<{width}}  weights" + "".join(f"{name:>9}  moved" for name in measurement.formats),
    ]
    counts = dict(zip(measurement.layers, measurement.counts, strict=True))
    for layer in measurement.by_sensitivity():
        cells = (
            f"{measurement.points(layer, name).value:>9.3f}{measurement.moved_percent(layer, name):>7.2f}"
            for name in measurement.formats
        )
        lines.append(f"# {layer:<{width}}  {counts[layer]:>7}" + "".join(cells))
    lines += ["", "weight_bits = 8", "edge_bits = 8", "", "[layers]"]
    lines += [f'"{layer}" = "{name}"' for layer, name in plan.formats.items() if name != EIGHT_BITS]
    return "\n".join(lines) + "\n"
