"""Options of a user: `FaceOptions`, checked."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cunet_deploy.errors import InputError

__all__ = ["GROUPS", "STYLES", "FaceOptions"]

STYLES = ("colour", "grey", "infrared")
"""Styles of a picture: as a camera's, as a grey one, as a near-infrared camera's with its own lamp."""

GROUPS: dict[str, str] = {
    "children": "faces of babies and children; without it all are grown up",
    "laughs": "wide laughs; without it they become slight smiles",
    "hair": "hair of all lengths",
    "fringes": "hair that falls on the forehead",
    "beards": "beards, moustaches and stubble",
    "glasses": "glasses and sunglasses",
    "hats": "hats, caps and headbands",
    "collars": "collars, scarves, hoods: what stands at the jaw",
    "hands": "a hand at mouth, chin or cheek",
    "objects": "microphones and other things in front of the face",
    "stage-light": "coloured lamps",
    "heads": "other heads behind",
    "environments": "rooms and landscapes as light and background; without it plain ones",
    "blur": "defocus, motion and low resolution",
    "low-light": "dark pictures and noise",
    "jpeg": "strong compression",
}
"""Groups that ``--without`` can leave out, to measure their worth. The rest of a face stays exactly as it was."""


@dataclass(frozen=True)
class FaceOptions:
    """Options of faces to render; the same options and number always give the same picture on the same renderer.

    Attributes:
        size: side of the square pictures in pixels.
        seed: of everything random.
        yaw: largest turn to either side in degrees, up to 90.
        style: one of `STYLES`.
        hidden: where landmarks lie that the head itself hides: at the visible ``"edge"`` that covers them, as people
            annotate photos, or ``"through"`` the head, where they truly are.
        distance: nearest and farthest camera in metres.
        elevation: lowest and highest camera in degrees above the height of the eyes.
        focal: focal length of the camera in pixels, ``None`` for any: faces that it would show smaller than the
            picture get the blur of enlarging.
        noise: largest standard deviation of noise in grey levels, ``None`` for the usual spread.
        without: names of `GROUPS` that are left out.
        backgrounds: folder of pictures to put behind the heads, ``None`` for drawn ones.
        environments: folder of equirectangular ``.exr`` or ``.hdr`` pictures for light and background.

    Raises:
        InputError: a value is out of range, or a group is unknown.
    """

    size: int = 192
    seed: int = 0
    yaw: float = 90.0
    style: str = "colour"
    hidden: str = "edge"
    distance: tuple[float, float] = (0.6, 4.0)
    elevation: tuple[float, float] = (-32.0, 32.0)
    focal: float | None = None
    noise: float | None = None
    without: tuple[str, ...] = ()
    backgrounds: str | None = None
    environments: str | None = None

    def __post_init__(self) -> None:
        _check(64 <= self.size <= 1024, f"size is {self.size}; expected 64 to 1024 pixels")
        _check(0 <= self.seed < 2**63, f"seed is {self.seed}; expected a number from 0 on")
        _check(0 <= self.yaw <= 90, f"yaw is {self.yaw:g}; expected 0 to 90 degrees")
        _check(self.style in STYLES, f"style is {self.style!r}; choose from {', '.join(STYLES)}")
        _check(self.hidden in ("edge", "through"), f"hidden is {self.hidden!r}; choose edge or through")
        near, far = self.distance
        _check(
            0.3 <= near <= far <= 20, f"distance is {near:g}:{far:g}; expected two of 0.3 to 20 metres, smaller first"
        )
        low, high = self.elevation
        _check(
            -60 <= low <= high <= 60, f"elevation is {low:g}:{high:g}; expected two of -60 to 60 degrees, lower first"
        )
        _check(self.focal is None or 20 <= self.focal <= 20000, f"focal is {self.focal}; expected 20 to 20000 pixels")
        _check(self.noise is None or 0 <= self.noise <= 80, f"noise is {self.noise}; expected 0 to 80 grey levels")
        for name in self.without:
            if name not in GROUPS:
                near_name = difflib.get_close_matches(name, GROUPS, n=1)
                hint = f"did you mean {near_name[0]!r}?" if near_name else f"choose from {', '.join(GROUPS)}"
                raise InputError(f"without {name}: no such group; {hint}")
        for option, folder in (("backgrounds", self.backgrounds), ("environments", self.environments)):
            _check(
                folder is None or Path(folder).is_dir(), f"{option} {folder}: is not a folder; name one with pictures"
            )

    def has(self, group: str) -> bool:
        """Return whether a group of `GROUPS` is wanted."""
        return group not in self.without

    def as_json(self) -> dict[str, Any]:
        """All values, as JSON stores them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)
