"""Draw pictures of cartoon animals, faces and things, in which nobody is: backgrounds for the training of detectors.

    npm pack @lobehub/fluent-emoji-3d && tar xzf lobehub-fluent-emoji-3d-*.tgz
    python -m tools.release.cartoons package/assets -n 2000 --seed 1 -o data/cartoons

Detectors take the characters of animated films for people, and photos for training show none. The pictures are Fluent
Emoji of Microsoft (MIT licence, 256 x 256 with transparency), named by their code points; those of people are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._files import write_bytes_atomic
from cunet_deploy.errors import InputError
from tools.reports import errors_in_a_line

SIDE = 384
_MOST = 6
_LEAST_SIDE = 0.12
"""Smallest side of a pasted picture, as a share of the side of the whole."""
_QUALITY = 88
CHARACTERS = (
    (0x1F31A, 0x1F31E),  # moon and sun with faces
    (0x1F383, 0x1F383),  # jack-o'-lantern
    (0x1F400, 0x1F43F),  # animals, and their faces
    (0x1F479, 0x1F47B),  # ogre, goblin, ghost
    (0x1F47D, 0x1F480),  # alien, monster, imp, skull
    (0x1F5FD, 0x1F5FF),  # statues
    (0x1F600, 0x1F644),  # round faces, faces of cats
    (0x1F648, 0x1F64A),  # monkeys
    (0x1F910, 0x1F917),  # round faces, robot
    (0x1F970, 0x1F97A),
    (0x1F980, 0x1F9AE),  # animals
    (0x1F9F8, 0x1F9F8),  # teddy bear
)
"""First and last code points of what could be taken for somebody."""
THINGS = (
    (0x1F33D, 0x1F382),
    (0x1F488, 0x1F48A),
    (0x1F4A1, 0x1F4A9),
    (0x1F4AB, 0x1F4F7),
    (0x1F680, 0x1F6A2),
    (0x1FA80, 0x1FAB9),
)
_SHARE_OF_THINGS = 0.3


def pictures(folder: Path, ranges: Sequence[tuple[int, int]]) -> list[NDArray[np.uint8]]:
    """(H, W, 4) BGRA pictures of single code points in some ranges, in order of these.

    Raises:
        InputError: there is none.
    """
    found = []
    for path in sorted(folder.glob("*.webp")):
        points = [int(part, 16) for part in path.stem.split("-") if part != "fe0f"]
        if len(points) == 1 and any(first <= points[0] <= last for first, last in ranges):
            picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if picture is not None and picture.ndim == 3 and picture.shape[2] == 4:
                found.append(np.asarray(picture, np.uint8))
    if not found:
        raise InputError(f"{folder}: holds no picture named by its code point, such as 1f43b.webp, with transparency")
    return found


def draw(
    characters: Sequence[NDArray[np.uint8]], things: Sequence[NDArray[np.uint8]], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """(384, 384, 3) BGR picture of one or several of them on a random ground."""
    image = _ground(rng)
    for _ in range(int(rng.integers(1, _MOST + 1))):
        those = things if rng.random() < _SHARE_OF_THINGS else characters
        picture = those[int(rng.integers(len(those)))]
        # large ones are rare, since they cover the others
        side = int(SIDE * 2 ** rng.uniform(np.log2(_LEAST_SIDE), 0))
        angle, stretch = float(rng.normal(0, 12)), float(rng.uniform(0.85, 1.15))
        middle = (picture.shape[1] / 2, picture.shape[0] / 2)
        turn = np.asarray(cv2.getRotationMatrix2D(middle, angle, side / max(picture.shape)), np.float64)
        turn[0] *= stretch
        turn[:, 2] += rng.uniform(-0.1, 0.9, 2) * (SIDE - side / 2) - np.array(picture.shape[1::-1]) / 2 + side / 2
        laid = np.asarray(cv2.warpAffine(picture, turn, (SIDE, SIDE), flags=cv2.INTER_AREA), np.float32)
        cover = laid[..., 3:] / 255
        coloured = (laid[..., :3] * rng.uniform(0.7, 1.15, 3)).clip(0, 255)
        image = np.asarray(image + cover * (coloured - image), np.float32)
    return image.round().clip(0, 255).astype(np.uint8)


def _ground(rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise of several sizes in random colours."""
    colour, dull = rng.uniform(0, 255, 3), rng.uniform()
    image = np.tile((dull * colour.mean() + (1 - dull) * colour).astype(np.float32), (SIDE, SIDE, 1))
    strength = float(rng.uniform(10, 90))
    for cells in (2, 4, 8, 16, 64, SIDE):
        noise = rng.normal(0, strength / cells**0.4, (cells, cells, 3)).astype(np.float32)
        share = dull if cells < 8 else 1.0  # details are of one colour more than areas
        noise = share * noise.mean(axis=2, keepdims=True) + (1 - share) * noise
        image += cv2.resize(noise.astype(np.float32), (SIDE, SIDE))
    return image.clip(0, 255)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-n", "--count", type=click.IntRange(1), default=2000, show_default=True, help="Number of pictures.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same pictures.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the pictures.")
@errors_in_a_line
def main(folder: Path, count: int, seed: int, output: Path) -> None:
    """Draw pictures of what lies in FOLDER."""
    characters, things = (pictures(folder, ranges) for ranges in (CHARACTERS, THINGS))
    for number in range(count):
        image = draw(characters, things, np.random.default_rng([seed, number]))
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
        write_bytes_atomic(output / f"{number:06d}.jpg", data.tobytes(), overwrite=True)
    click.echo(f"{output}: {count} pictures of {len(characters)} characters and {len(things)} things")


if __name__ == "__main__":
    main()
