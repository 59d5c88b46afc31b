"""Builds and draws one person: `Studio` holds what all share, `Figure` what one recipe makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.synthesis.assets import AssetLibrary
from cunet_deploy.synthesis.garments import (
    HandModel,
    make_collar,
    make_glasses,
    make_hat,
    make_hood,
    make_prop,
    surface_front,
)
from cunet_deploy.synthesis.gl import Graphics, Surface
from cunet_deploy.synthesis.hair import grow_hair, scalp_degrees
from cunet_deploy.synthesis.landmarks import BrowLine, Landmarks68
from cunet_deploy.synthesis.mesh import HeadMesh, load_mesh
from cunet_deploy.synthesis.occlusion import ambient_occlusion
from cunet_deploy.synthesis.paint import beard_mask, brow_line, paint_face
from cunet_deploy.synthesis.recipe import FaceRecipe
from cunet_deploy.synthesis.shapes import Neck, Shape, Skull
from cunet_deploy.synthesis.view import posed, rotation

__all__ = ["Figure", "Studio"]

Floats = NDArray[np.float32]

_LIPS, _EARS = "data/mpfb2/textures/mpfb_lips.jpg", "data/mpfb2/textures/mpfb_ears.jpg"
_TEETH = ("upper_teeth", "lower_teeth")
_EAR = 60
_LIP_SIDE = 1024
_BEARD_LAYERS = 5
_SKIN_FLOOR = 0.22  # crevices of a coarse mesh get too dark
_EYE_RADIUS = 0.1382


class Studio:
    """Resources that all figures share: the mesh on the graphics side, landmark definitions, grids, masks.

    Args:
        library: gives the assets.
        graphics: draws.
    """

    def __init__(self, library: AssetLibrary, graphics: Graphics) -> None:
        self.graphics = graphics
        self.mesh: HeadMesh = load_mesh(library)
        skin = self.mesh.parts["skin"]
        ears = _read_grey(library, _EARS)
        at = np.clip((skin.uv[:, ::-1] * ears.shape[0]).astype(int), 0, ears.shape[0] - 1)
        ear = ears[at[:, 0], at[:, 1]].astype(np.float64)
        triangles = skin.vertices[skin.triangles]
        self.landmarks = Landmarks68(self.mesh, ear)
        self.skull = Skull(self.mesh, triangles[(ear[skin.triangles] <= _EAR).all(axis=1)])
        self.neck, self.hand = Neck(self.mesh), HandModel(self.mesh)
        rest = self.mesh.rest[skin.vertices]
        self.scalp_angles = self.skull.angles(rest)
        lips = cv2.resize(_read_grey(library, _LIPS), (_LIP_SIDE, _LIP_SIDE), interpolation=cv2.INTER_AREA)
        graphics.texture("lip_mask", np.asarray(lips, np.uint8)[..., None])
        self.sides = self._sides()
        self.surfaces = self._upload(rest, skin.triangles)

    def _upload(self, rest: Floats, triangles: NDArray[np.int32]) -> dict[str, Surface]:
        occlusion = self._occlusion()
        corners = rest[triangles]
        bearded = (corners[..., 2].max(1) > 0.35) & (corners[..., 1].max(1) > 5.95) & (corners[..., 1].min(1) < 7.15)
        surfaces = {}
        for name, part in self.mesh.parts.items():
            if name == "hand":
                continue
            materials = {_MATERIAL.get(name, "plain"): part.triangles}
            if name == "skin":
                materials["beard"] = part.triangles[bearded]
            own = self.mesh.rest[part.vertices]
            ao = occlusion[part.vertices]
            if name == "skin":
                ao = np.maximum(ao, _SKIN_FLOOR)
            elif name.endswith("teeth"):
                ao = (0.7 if name == "upper_teeth" else 0.5) + 0.25 * np.clip((own[:, 2] - 1.0) / 0.35, 0, 1)
            elif name == "tongue":
                ao = np.full(len(own), 0.45)
            surfaces[name] = self.graphics.surface(
                part.triangles, own, materials, uv=part.uv, ao=np.asarray(ao, np.float32)
            )
        return surfaces

    def _occlusion(self) -> Floats:
        parts = [
            self.mesh.parts[name] for name in ("skin", "right_eye", "left_eye", "upper_teeth", "lower_teeth", "tongue")
        ]
        triangles = np.concatenate([part.vertices[part.triangles] for part in parts])
        return ambient_occlusion(self.graphics, self.mesh.rest, self.mesh.normals(self.mesh.rest), triangles)

    def _sides(self) -> NDArray[np.float64]:
        """(68,) how far landmarks lie to the person's left in rest pose; 0 for the contour, which slides by itself."""
        line = BrowLine(self.landmarks.brow_x, self.landmarks.brow_y, 0.06)
        points = self.landmarks.locate(self.mesh.rest, line, lambda p: p[..., :2], 0.0)
        side = points[:, 0].astype(np.float64)
        side[:17] = 0
        return side

    def build(self, recipe: FaceRecipe) -> Figure:
        """Shape, turn and upload one person."""
        return Figure(self, recipe)


_MATERIAL = {"skin": "skin", "right_eye": "eye", "left_eye": "eye", "lashes": "lash"}


def _read_grey(library: AssetLibrary, name: str) -> NDArray[np.uint8]:
    """A mask, bottom row first."""
    return np.asarray(cv2.imdecode(np.frombuffer(library.read(name), np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)[::-1]


class Figure:
    """One person on the graphics side; `close` it.

    Attributes:
        head: surfaces that hide landmarks as the head's own.
        covering: surfaces that cover landmarks: hair, clothes, things.
        sides: see `Studio`.
        skin_brightness: mean of the skin's colour.
    """

    def __init__(self, studio: Studio, recipe: FaceRecipe) -> None:
        self.studio, self.recipe, self.graphics = studio, recipe, studio.graphics
        self.sides = studio.sides
        self.skin_brightness = float(np.mean(recipe.appearance.skin.colour))
        self.vertices = studio.mesh.shape(recipe.person.weights, recipe.expression.weights)
        self._normals = studio.mesh.normals(self.vertices)
        self._positions, turned = posed(self.vertices, self._normals, recipe.pose)
        self.brow = brow_line(recipe.appearance.brow, studio.landmarks.brow_x, studio.landmarks.brow_y)
        scalp = scalp_degrees(recipe.appearance.hair, *studio.scalp_angles)
        for name, surface in studio.surfaces.items():
            part = studio.mesh.parts[name]
            extra = scalp.astype(np.float32) if name == "skin" else None
            self.graphics.move(surface, self._positions[part.vertices], turned[part.vertices], extra)
        self._extras: dict[str, Surface] = {}
        self._dress()
        self.head = [studio.surfaces[name] for name in ("skin", "right_eye", "left_eye", *_TEETH)]
        see_through = () if recipe.wear.glasses and recipe.wear.glasses.tint > 0.5 else ("lenses",)
        self.covering = [surface for name, surface in self._extras.items() if name not in see_through]
        self.opaque = [studio.surfaces[name] for name in ("skin", *_TEETH)]
        self.opaque += [surface for name, surface in self._extras.items() if name != "lenses"]

    def _dress(self) -> None:
        """Make and upload everything that is not part of the mesh."""
        studio, recipe, wear = self.studio, self.recipe, self.recipe.wear
        radii = studio.skull.radii(self.vertices)
        seed = recipe.background.seed
        hair = grow_hair(studio.skull, radii, recipe.appearance.hair, seed)
        hood = wear.collar is not None and wear.collar.kind == "hood"
        if hair is not None and not hood:
            self._add("hair", hair, "hair", rigid=True)
        if wear.collar is not None:
            if hood:
                self._add("hood", make_hood(studio.skull, radii, wear.collar, seed), "cloth")
            else:
                self._add("collar", make_collar(studio.neck, self.vertices, wear.collar, seed), "cloth")
        if wear.hat is not None and not hood:
            self._add(
                "hat", make_hat(studio.skull, radii, wear.hat, recipe.appearance.hair.volume), "cloth", rigid=True
            )
        if wear.glasses is not None:
            frame, lenses = self._glasses()
            self._add("frame", frame, "plain", rigid=True)
            self._add("lenses", lenses, "plain", rigid=True)
        if wear.prop is not None:
            front = surface_front(studio.mesh, self.vertices, wear.prop.x, wear.prop.y)
            self._add("prop", make_prop(wear.prop, front), "plain", rigid=True)
        if wear.hand is not None:
            front = surface_front(studio.mesh, self.vertices, wear.hand.x, wear.hand.y)
            self._add("hand", studio.hand.place(wear.hand, front), "hand", rigid=True)

    def _glasses(self) -> tuple[Shape, Shape]:
        mesh, glasses = self.studio.mesh, self.recipe.wear.glasses
        assert glasses is not None
        eyes = [self.vertices[mesh.parts[name].vertices] for name in ("right_eye", "left_eye")]
        centres = np.stack([(eye.max(axis=0) + eye.min(axis=0)) / 2 for eye in eyes])
        ridge = self.studio.landmarks.locate(self.vertices, self.brow, lambda p: p[..., :2], 0.0)[27]
        radii = self.studio.skull.radii(self.vertices)
        ears = float(self.studio.skull.sample(radii, np.array(90.0), np.array(98.0))) + 0.02
        return make_glasses(self.vertices, glasses, centres, ridge, ears)

    def _add(self, name: str, shape: Shape, material: str, *, rigid: bool = False) -> None:
        positions, normals = posed(shape.points, shape.normals(), self.recipe.pose, rigid=rigid)
        surface = self.graphics.surface(
            shape.triangles, shape.points, {material: shape.triangles}, uv=shape.uv, ao=shape.ao
        )
        self.graphics.move(surface, positions, normals, shape.extra)
        self._extras[name] = surface

    def landmarks(self, project: Callable[[Any], Any]) -> Floats:
        """(68, 3) landmarks as a camera sees them, see `Landmarks68.locate`."""
        return self.studio.landmarks.locate(self._positions, self.brow, project, self.recipe.pose.roll)

    def close(self) -> None:
        """Give back the memory of what was made for this figure."""
        for surface in self._extras.values():
            self.graphics.release(surface)
        self._extras.clear()

    def draw(self, *, infrared: bool) -> None:
        """Draw the figure with the light as it is set."""
        graphics, appearance, surfaces = self.graphics, self.recipe.appearance, self.studio.surfaces
        tone = _infrared if infrared else _as_it_is
        self._paint(tone)
        graphics.front_only(True)
        graphics.draw(surfaces["skin"], "skin")
        self._draw_eyes(tone)
        graphics.front_only(False)
        graphics.set(colour=tone(appearance.teeth), surface=(0.6, 1.0, 0.0))
        for name in _TEETH:
            graphics.draw(surfaces[name], "plain")
        graphics.set(colour=tone((0.35, 0.12, 0.11)), surface=(0.2, 1.0, 0.2))
        graphics.draw(surfaces["tongue"], "plain")
        graphics.coverage(True)
        graphics.set(lashes=(appearance.lashes, 0.4 * appearance.lashes))
        graphics.draw(surfaces["lashes"], "lash")
        if appearance.beard.kind in ("full", "goatee", "moustache"):
            self._draw_beard(tone)
        if "hair" in self._extras:
            hair = appearance.hair
            ragged = 0.5 if hair.length > 0 or hair.fringe > 0 else 0.16
            graphics.set(hair_colour=tone(hair.colour), strands=(hair.strand, hair.curl, hair.gloss, ragged))
            for layer, shell in ((0.0, 0.0), (1.0, 0.025)):
                graphics.set(layer=layer, shell=shell)
                graphics.draw(self._extras["hair"], "hair")
            graphics.set(layer=0.0, shell=0.0)
        graphics.coverage(False)
        self._draw_wear(tone)

    def _paint(self, tone: Callable[[Any], Any]) -> None:
        """Set textures and colours of the skin."""
        graphics, recipe, appearance = self.graphics, self.recipe, self.recipe.appearance
        beard = beard_mask(appearance.beard)
        paint = paint_face(appearance, recipe.person, self.brow, beard, recipe.background.seed + 1)
        graphics.texture("paint", paint)
        graphics.texture("beard_mask", (beard * 255).astype(np.uint8)[..., None])
        skin = appearance.skin
        bald = appearance.hair.kind == "bald"
        graphics.set(
            skin_colour=tone(skin.colour),
            lip_colour=tone(skin.lips),
            hair_colour=tone(appearance.hair.colour),
            cloth_colour=tone(recipe.wear.cloth),
            texture_strength=(skin.blotch, skin.grain, skin.redness, skin.shine),
            scalp=(0.25 * appearance.hair.strand * 0.5 if bald else 0.85, 0.4, skin.bump),
            neckline=(recipe.wear.neckline, recipe.wear.vneck, 1.0 if recipe.background.seed % 5 == 0 else 0.0),
        )

    def _draw_eyes(self, tone: Callable[[Any], Any]) -> None:
        graphics, appearance, mesh = self.graphics, self.recipe.appearance, self.studio.mesh
        direction = rotation(appearance.gaze[0], -appearance.gaze[1], 0) @ [0.0, 0.0, 1.0]
        gaze = (*(float(value) for value in direction), appearance.iris_size)
        graphics.set(gaze=gaze, iris_colour=tone(appearance.iris), pupil=appearance.pupil, eye_radius=_EYE_RADIUS)
        for name in ("right_eye", "left_eye"):
            rest = mesh.rest[mesh.parts[name].vertices]
            graphics.set(eye_centre=tuple(float(v) for v in (rest.max(axis=0) + rest.min(axis=0)) / 2))
            graphics.draw(self.studio.surfaces[name], "eye")

    def _draw_beard(self, tone: Callable[[Any], Any]) -> None:
        graphics, beard, pose = self.graphics, self.recipe.appearance.beard, self.recipe.pose
        down = rotation(pose.yaw, pose.pitch, pose.roll) @ [0.0, -0.6, 0.0]
        graphics.set(beard_colour=tone(beard.colour), beard_hair=(5.5, self.recipe.appearance.hair.gloss))
        for number in range(1, _BEARD_LAYERS + 1):
            share = number / _BEARD_LAYERS
            comb = tuple(float(v) for v in down * beard.length * share)
            graphics.set(shell=beard.length * share, layer=0.9 * share, comb=comb)
            graphics.draw(self.studio.surfaces["skin"], "beard")
        graphics.set(shell=0.0, layer=0.0, comb=(0.0, 0.0, 0.0))

    def _draw_wear(self, tone: Callable[[Any], Any]) -> None:
        graphics, wear, extras = self.graphics, self.recipe.wear, self._extras
        for name, garment in (("collar", wear.collar), ("hood", wear.collar), ("hat", wear.hat)):
            if name in extras and garment is not None:
                pattern = max(0.0, 4 * getattr(garment, "pattern", 0.0) - 3)
                graphics.set(colour=tone(garment.colour), surface=(pattern, 0.9, 0.37))
                graphics.draw(extras[name], "cloth")
        if wear.prop is not None:
            graphics.set(colour=tone(wear.prop.colour), surface=(0.2, 1.0, 0.5))
            graphics.draw(extras["prop"], "plain")
        if wear.hand is not None:
            graphics.draw(extras["hand"], "hand")
        if wear.glasses is not None:
            graphics.set(colour=tone(wear.glasses.frame), surface=(0.6, 1.0, 0.0))
            graphics.draw(extras["frame"], "plain")
            graphics.blend(True)
            graphics.set(colour=tone(wear.glasses.lens), surface=(1.5, wear.glasses.tint, 0.0))
            graphics.draw(extras["lenses"], "plain")
            graphics.blend(False)


def _as_it_is(colour: Any) -> Any:
    return tuple(colour)


def _infrared(colour: Any) -> Any:
    """Reflectance at 850 nm, roughly: pigments of skin, hair and cloth are pale there, so all is lighter and alike."""
    value = 0.25 + 0.55 * float(np.mean(colour)) ** 0.5
    return (value, value, value)
