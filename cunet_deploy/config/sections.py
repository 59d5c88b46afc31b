"""Settings of the network, its targets and its data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from msgspec import Meta

from cunet_deploy._decode import AtLeastZero, Positive, Share, check_fields
from cunet_deploy._decode import check as _check
from cunet_deploy.boxmaps import BoxCode
from cunet_deploy.config.networks import NETWORK_RULES, NetworkRules
from cunet_deploy.errors import ConfigError
from cunet_deploy.heatmaps import Decoder

__all__ = ["AugmentConfig", "BoxConfig", "DataConfig", "HeatmapConfig", "ModelConfig", "SourceConfig"]


@dataclass(frozen=True)
class ModelConfig:
    """The network; defaults are the paper's CU-Net-2.

    Attributes:
        kind: "cunet", or one of the paper's baselines: "hourglass" (Newell et al., ECCV 2016: ``num_unets`` stacks of
            ``channels`` features) or "dense_unet" (one U-Net, ``num_unets`` dense units in a row in every block).
        num_unets: N, how many U-Nets are coupled.
        order: K, how many earlier U-Nets each block sees; 0 <= K < N.
        num_losses: L, how many U-Nets are supervised; 0 means all N.
        channels: C, width of the features between blocks.
        growth: g, channels that a dense unit adds.
        bottleneck: b; the 1x1 convolution of a dense unit has b * g channels.
        depth: number of times a U-Net halves the resolution.
        block: "pre" is the paper's BN-ReLU-conv on concatenations; "post" is conv-BN-ReLU, in which every BN folds.
        stem: "conv7" is the paper's 7x7 stride 2 and max pool; "conv3x2" is two 3x3 convolutions of stride 2;
            "s2d" is one 7x7 convolution of stride 4, which CPUs run as a 2x2 one on blocks of pixels (space to depth).
        passes: 2 is the paper's iterative refinement: all U-Nets run again with the same convolutions and their own
            batch normalization, on the image's features merged with the first pass's; both passes are supervised.
    """

    kind: str = "cunet"
    num_unets: Annotated[int, Meta(ge=1, le=64)] = 2
    order: int = 1
    num_losses: int = 0
    channels: Annotated[int, Meta(ge=1, le=4096)] = 128
    growth: Annotated[int, Meta(ge=1, le=4096)] = 32
    bottleneck: Annotated[int, Meta(ge=1, le=64)] = 4
    depth: Annotated[int, Meta(ge=1, le=8)] = 4
    block: Literal["pre", "post"] = "pre"
    stem: Literal["conv7", "conv3x2", "s2d"] = "conv7"
    passes: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        check_fields(self, "[model]")
        kinds = ", ".join(map(repr, NETWORK_RULES))
        _check(self.kind in NETWORK_RULES, f"[model] kind must be one of {kinds}, got {self.kind!r}")
        for key, value in self.rules.fixed.items():
            wanted = f'"{value}"' if isinstance(value, str) else value
            _check(
                getattr(self, key) == value,
                f"[model] kind {self.kind!r} comes with {key} = {wanted} only, got {getattr(self, key)!r}",
            )
        _check(
            0 <= self.order < self.num_unets,
            f"[model] order must be from 0 to num_unets - 1 = {self.num_unets - 1}, got {self.order}",
        )
        _check(
            0 <= self.num_losses <= self.num_unets,
            f"[model] num_losses must be from 0 (all) to num_unets = {self.num_unets}, got {self.num_losses}",
        )
        multiple = self.rules.channels_multiple
        _check(
            self.channels % multiple == 0,
            f"[model] channels of a {self.kind!r} must be a multiple of {multiple}, got {self.channels}",
        )

    @property
    def rules(self) -> NetworkRules:
        """Rules of the kind of network."""
        return NETWORK_RULES[self.kind]

    @property
    def stride(self) -> int:
        """Input pixels per heatmap cell."""
        return 4

    @property
    def input_multiple(self) -> int:
        """The input's side must be a multiple of this."""
        return int(self.stride * 2**self.depth)

    @property
    def anchors(self) -> tuple[int, ...]:
        """Indices (0-based, ascending) of the supervised U-Nets; the last one is always among them.

        A naive dense U-Net has one head, behind its end.

        Anchor k of L is U-Net N (k + 1) / L, rounded half up (the authors' Python 2 rounds so; Python 3 does not).
        """
        if self.rules.has_one_head:
            return (0,)
        count = self.num_losses or self.num_unets
        return tuple((2 * self.num_unets * (k + 1) + count) // (2 * count) - 1 for k in range(count))


@dataclass(frozen=True)
class HeatmapConfig(Decoder):
    """Targets, and how landmarks are read from maps: ``radius``, ``blur`` and ``method`` of `cunet_deploy.heatmaps`.

    Attributes:
        sigma: standard deviation of the target Gaussian, in map cells.
        foreground_weight: w in the loss mean((1 + w * target) * (prediction - target)^2).
        hidden_peak: height of the target of a landmark that is labelled and hidden, where labels say so: below 1 the
            network learns to give such landmarks a lower score; 0.5 suits.
    """

    sigma: Annotated[float, Meta(gt=0, le=100)] = 1.2
    foreground_weight: AtLeastZero = 9.0
    hidden_peak: Annotated[float, Meta(gt=0, le=1)] = 1.0

    def __post_init__(self) -> None:
        self.check("[heatmap]", ConfigError)

    @property
    def decoder(self) -> Decoder:
        """Decoder of the heatmaps."""
        return Decoder(**{item.name: getattr(self, item.name) for item in fields(Decoder)})


@dataclass(frozen=True)
class BoxConfig(BoxCode):
    """Training of a network that finds boxes (skeleton "box"); a `cunet_deploy.boxmaps.BoxCode` has the first keys.

    Attributes:
        side_weight: weight of the error of the sides in the loss.
        balance: how far the loss makes up for the few cells of small objects: 0: every cell counts alike; 1: every
            object does.
        min_label: labels with a lower score are not learnt, and not counted as background either.
        min_side: nor are those whose longer side is smaller, in input pixels.
        drawn_from: smallest side, in input pixels, at which an object is drawn for training.
        drawn_to: largest side.
        mosaic: share of the examples that are put together from several photos.
        max_tiles: most photos on a side of such a mosaic.
        scatter: share of the examples in which objects and pieces of backgrounds lie at random places on a background.
        finds: "faces" or "people"; decides which parts of the photos of ``[data] background`` may show what is to be
            found. Empty: people, unless every data set lists its boxes in a ``faces.json``.
        beside: show of a background photo only the largest part beside what is unknown in it.
        recall_weight: how much more recall counts than precision when the score from which a box counts is chosen. A
            network of landmarks looks at what is found and may reject it: then 2 suits.
    """

    side_weight: AtLeastZero = 0.05
    balance: Share = 0.0
    min_label: Share = 0.8
    min_side: AtLeastZero = 16.0
    drawn_from: Positive = 20.0
    drawn_to: Positive = 200.0
    mosaic: Share = 0.5
    max_tiles: Annotated[int, Meta(ge=2, le=6)] = 3
    scatter: Share = 0.0
    finds: Literal["", "faces", "people"] = ""
    beside: bool = False
    recall_weight: Positive = 1.0

    @property
    def code(self) -> BoxCode:
        """Encoding of boxes as maps, and their decoding."""
        return BoxCode(**{item.name: getattr(self, item.name) for item in fields(BoxCode)})

    def __post_init__(self) -> None:
        check_fields(self, "[boxes]")
        _check(
            self.drawn_from <= self.drawn_to,
            f"[boxes] drawn_from must be at most drawn_to = {self.drawn_to}, got {self.drawn_from}",
        )


@dataclass(frozen=True)
class SourceConfig:
    """One of several data sets that are trained on together: an item of ``[data] sources``.

    Attributes:
        path: folder below ``--data``, perhaps with a part of it, as in ``[data] train``.
        layout: as ``[data] layout``; empty: by the files in the folder.
        weight: how much each of its objects counts: 2 is drawn twice in an epoch; 0.5 once, and its labels count half.
        labels: file below ``--data`` with what several sources agree on (see `cunet_deploy.data.agreement`): it gives
            labels, and how much each counts.
        unlabelled: "ignore" leaves its landmarks without a label out of the loss, whatever ``[train] unlabelled`` says:
            for data sets that left them open on purpose. Landmarks that a layout does not have are always left out.
        visibility: with ``[heatmap] hidden_peak``, how labels count that do not say whether a landmark is visible:
            empty: as visible; "unknown": the network is left to say so. For photos with many hidden landmarks.
        exhaustive: whether every object of its photos is labelled or listed; ``False``: what lies beside its labelled
            objects is not taken for background.
        boxes: for networks that find boxes: "bodies" makes boxes of people from their joints, as far as hair, hands and
            shoes (see `cunet_deploy.data.bodies`), where labelled boxes end at the joints or elsewhere; "tight": the
            boxes of this source are tight around landmarks, and are enlarged by tight_down, tight_width and
            tight_height of ``[boxes]``; empty: the labelled boxes, else the tight ones around the landmarks.
    """

    path: Annotated[str, Meta(min_length=1, description="the name of a folder of the data")]
    layout: str = ""
    weight: Annotated[float, Meta(gt=0, le=100)] = 1.0
    labels: str = ""
    unlabelled: Literal["", "ignore"] = ""
    visibility: Literal["", "unknown"] = ""
    exhaustive: bool = True
    boxes: Literal["", "bodies", "tight"] = ""

    def __post_init__(self) -> None:
        check_fields(self, "[data] sources:")


@dataclass(frozen=True)
class DataConfig:
    """Data sets of a run.

    Attributes:
        sources: data sets to train on, each with its own layout, in place of ``train`` and ``layout``.
        train: folders below ``--data`` to train on; ``FOLDER#NAME`` is a part of one (see `cunet_deploy.data.readers`).
        validation_fraction: share of the photos of ``train`` for validation, to show progress.
        layout: how the folders are laid out; each is described in a module of `cunet_deploy.data`: "300w" is NAME.jpg
            beside NAME.pts (`ibug`), "lsp" the ``joints.mat`` of Leeds Sports Pose or its extended set (`lsp`), "mpii"
            the release of MPII Human Pose or its conversions to JSON (`mpii`), "coco" COCO keypoints (`coco`), "points"
            your own ``points.csv`` (`points`); for networks that find boxes also "faces": photos and a ``faces.json``
            of all boxes in them (`faces`); of the other layouts these learn the tight boxes around the landmarks.
        background: further folders below ``--data`` whose photos show what is not to be found (`boxes`).
        licence: what the data allows; written into checkpoint, bundle and card.
    """

    train: tuple[str, ...] = ()
    validation_fraction: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    layout: str = "300w"
    background: tuple[str, ...] = ()
    licence: str = "unknown"
    sources: tuple[SourceConfig, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, "[data]")
        _check(bool(self.train or self.sources), "[data] train must name at least one folder of the data")
        _check(not (self.train and self.sources), "[data] has train and sources; name every folder in sources")

    @property
    def parts(self) -> tuple[SourceConfig, ...]:
        """The data sets to train on, however they are named."""
        return self.sources or tuple(SourceConfig(path, self.layout) for path in self.train)


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training examples. Standard deviations of clipped normals unless said.

    Attributes:
        scale: of log2 of the crop's side; clipped at twice that.
        shift: of the crop's centre, as a share of its side; clipped at twice that.
        rotation: in degrees; clipped at twice that.
        flip: probability of mirroring.
        gain: half-range of the uniform per-channel gain around 1.
        brightness: half-range of the uniform offset, in grey levels.
        blur: probability of a Gaussian blur.
        erase: probability of a filled rectangle over part of the crop.
        negative: share of examples that show background only and have empty targets. Of networks of landmarks that is
            a piece of the same photo beside its objects; half as many again are of ``[data] background``, if that
            names a folder.
        people: share of crops with another object of the training data pasted beside the middle, partly in front of
            the own one; of networks of landmarks, as the next two.
        objects: share of crops with a piece of another training photo pasted over a part of the object.
        cut: share of examples whose photo ends across the object; landmarks beyond that have empty targets.
        low_resolution: share of crops that are shrunk, at most six times, and enlarged again.
    """

    scale: Annotated[float, Meta(ge=0, le=4)] = 0.2
    shift: Annotated[float, Meta(ge=0, le=4)] = 0.06
    rotation: Annotated[float, Meta(ge=0, le=180)] = 20.0
    flip: Share = 0.5
    gain: Share = 0.3
    brightness: Annotated[float, Meta(ge=0, le=255)] = 25.0
    blur: Share = 0.15
    erase: Share = 0.25
    negative: Share = 0.0
    people: Share = 0.0
    objects: Share = 0.0
    cut: Share = 0.0
    low_resolution: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "[augment]")
