"""Description of a keypoint network that others made, as a TOML file beside it.

::

    name = "movenet-thunder"
    model = "thunder.onnx"
    landmarks = ["nose", "left_eye", "right_eye", ...]

    [input]
    width = 256
    height = 256
    layout = "NHWC"
    type = "int32"
    scale = [1]

    [output]
    form = "coordinates"
    columns = ["y", "x", "score"]
    unit = "share"

``landmarks`` are in the order of the output; those that have the names of one of our skeletons are used, others may
have any name. ``left_NAME`` and ``right_NAME`` trade places in a mirror image; ``skeleton = "NAME"`` takes names and
pairs of one of ours instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from cunet_deploy._decode import Positive, check, convert, read_toml
from cunet_deploy.errors import ConfigError, InputError
from cunet_deploy.geometry import CropRule
from cunet_deploy.skeletons import Skeleton, get_skeleton

__all__ = ["Description", "InputSpec", "OutputSpec", "read_description"]

Side = Annotated[int, Meta(ge=32, le=4096)]


@dataclass(frozen=True)
class InputSpec:
    """Input of the network: the middle of a square around the object, ``width`` by ``height``.

    Attributes:
        width: in pixels.
        height: in pixels.
        padding: sides of the input by those of a tight box around the joints that just fits into it.
        layout: "NCHW" or "NHWC".
        type: of the numbers.
        colour: order of the channels.
        mean: what is subtracted from the values 0 to 255: one number, or one for each channel.
        scale: what they are divided by then.
    """

    width: Side
    height: Side
    padding: Positive = 1.25
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    type: Literal["float32", "uint8", "int32"] = "float32"
    colour: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (255.0,)

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("scale", self.scale)):
            check(len(values) in (1, 3), f"[input] {name} must be a list of one or three numbers")
        check(all(value > 0 for value in self.scale), "[input] scale must be positive")


@dataclass(frozen=True)
class OutputSpec:
    """Output of the network.

    Attributes:
        form: "heatmap": a map for each landmark; "simcc": a row of scores over x and one over y for each landmark;
            "coordinates": numbers.
        names: of the outputs, x before y with "simcc"; empty: the first ones.
        layout: of heatmaps, "NCHW" or "NHWC".
        columns: of coordinates, the numbers of a landmark in order: "x", "y", "score", and "-" for others.
        unit: of coordinates: "pixels" of the input, from the middle of the first one, or "share" of its sides.
        activation: of scores: "sigmoid" for those that are logits.
    """

    form: Literal["heatmap", "simcc", "coordinates"]
    names: tuple[str, ...] = ()
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    columns: tuple[Literal["x", "y", "score", "-"], ...] = ("x", "y")
    unit: Literal["pixels", "share"] = "pixels"
    activation: Literal["none", "sigmoid"] = "none"

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            check(self.columns.count(name) == 1, f"[output] columns must have one {name!r}, got {list(self.columns)}")
        check(self.columns.count("score") <= 1, f"[output] columns has 'score' twice: {list(self.columns)}")
        wanted = 2 if self.form == "simcc" else 1
        check(len(self.names) in (0, wanted), f"[output] names must be {wanted} for form {self.form!r}, or left out")


@dataclass(frozen=True)
class _File:
    """Contents of such a file."""

    model: Annotated[str, Meta(min_length=1, description="the name of a file")]
    input: InputSpec
    output: OutputSpec
    name: str = ""
    landmarks: tuple[str, ...] = ()
    skeleton: str = ""

    def __post_init__(self) -> None:
        check(bool(self.landmarks) != bool(self.skeleton), "give landmarks, a list of names, or skeleton, one of ours")
        twice = [name for name in self.landmarks if self.landmarks.count(name) > 1]
        check(not twice, f"{twice[:1]} stands twice in landmarks; each has its own name")


@dataclass(frozen=True)
class Description:
    """A network that others made.

    Attributes:
        name: in reports.
        file: of the network.
        skeleton: its landmarks, in order.
        input: what it looks at.
        output: what it says.
    """

    name: str
    file: Path
    skeleton: Skeleton
    input: InputSpec
    output: OutputSpec

    @property
    def rule(self) -> CropRule:
        """Rule of the square whose middle is the input."""
        return CropRule(max(self.input.width, self.input.height), self.input.padding)


def read_description(path: Path) -> Description:
    """Read a file.

    Raises:
        ConfigError: it is missing, is not TOML, or a key is unknown, missing or malformed.
        InputError: its network is missing.
    """
    table = read_toml(path)
    try:
        content = convert(table, _File)
        skeleton = get_skeleton(content.skeleton) if content.skeleton else _skeleton(content.landmarks)
    except InputError as error:
        raise ConfigError(f"{path}: {error}") from error
    file = path.parent / content.model
    if not file.is_file():
        raise InputError(f"{path}: there is no file {file}; model is its path from this description")
    return Description(content.name or path.stem, file, skeleton, content.input, content.output)


def _skeleton(names: Sequence[str]) -> Skeleton:
    places = {name: index for index, name in enumerate(names)}
    pairs = [
        (index, places[name.replace("left_", "right_", 1)])
        for name, index in places.items()
        if name.startswith("left_") and name.replace("left_", "right_", 1) in places
    ]
    return Skeleton("foreign", tuple(names), tuple(pairs), ())
