"""The OpenGL side: a context without a window, the programs of the materials, meshes, and what is read back.

Works with a GPU, and without one through Mesa's software renderer (EGL). One thread draws: workers are processes, and
llvmpipe's results do not depend on a number of threads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy._optional import require
from cunet_deploy.errors import ArtifactError

__all__ = ["MATERIALS", "Graphics", "Surface", "open_context"]

Floats = NDArray[np.float32]

MATERIALS = ("skin", "hand", "hair", "beard", "eye", "lash", "plain", "cloth")
"""Names of the fragment shaders in ``shaders/``."""

_SAMPLES = 4
_SHADOW_SIDE = 384
_NOISE_SIDE = 48
_UNITS = {"lip_mask": 0, "paint": 1, "noise": 2, "shadow_map": 3, "beard_mask": 4}
_ALPHA_TO_COVERAGE = 0x809E
_HINT = "on Debian and Ubuntu: apt-get install libegl1 libgl1-mesa-dri"


@dataclass(eq=False)
class Surface:
    """A mesh on the graphics side.

    Attributes:
        moving: buffer of positions and normals.
        arrays: for each material, and for each range of it, what is drawn.
        depth: what is drawn into depth maps.
        resources: all that has to be released.
    """

    moving: Any
    arrays: dict[str, Any]
    depth: Any
    resources: list[Any] = field(default_factory=list)


def open_context() -> Any:
    """Open OpenGL without a window.

    Raises:
        MissingDependencyError: moderngl is not installed.
        ArtifactError: this machine has no OpenGL 3.3 without a window.
    """
    os.environ.setdefault("LP_NUM_THREADS", "0")  # llvmpipe: no threads of its own
    moderngl = require("moderngl", "synth")
    try:
        return moderngl.create_context(standalone=True, backend="egl", require=330)
    except Exception as error:  # the libraries raise whatever they meet
        raise ArtifactError(f"OpenGL cannot be opened ({error}); {_HINT}") from error


class Graphics:
    """Draws meshes into a square picture.

    Args:
        size: side in pixels.

    Raises:
        MissingDependencyError: moderngl is not installed.
        ArtifactError: no OpenGL 3.3 without a window on this machine.
    """

    def __init__(self, size: int) -> None:
        moderngl = require("moderngl", "synth")
        self.size, self._gl = size, moderngl
        self.context = open_context()
        self.renderer = str(self.context.info["GL_RENDERER"])
        context = self.context
        self._many = context.framebuffer(
            [context.renderbuffer((size, size), 4, samples=_SAMPLES)],
            context.depth_renderbuffer((size, size), samples=_SAMPLES),
        )
        self._one = context.framebuffer([context.renderbuffer((size, size), 4)])
        self._shadow = self._depth_map(_SHADOW_SIDE, compare=True)
        self._view = self._depth_map(size, compare=False)
        self._programs = self._compile()
        self._users: dict[str, list[Any]] = {}
        for program in self._programs.values():
            for name in program:
                self._users.setdefault(name, []).append(program[name])
        self._textures: dict[str, Any] = {"noise": self._noise()}
        for name, unit in _UNITS.items():
            self.set(**{name: unit})
        self._shadow[0].use(_UNITS["shadow_map"])
        context.enable(moderngl.DEPTH_TEST)
        context.front_face = "ccw"

    def _depth_map(self, side: int, *, compare: bool) -> tuple[Any, Any]:
        texture = self.context.depth_texture((side, side))
        texture.repeat_x = texture.repeat_y = False
        texture.compare_func = "<=" if compare else ""
        if compare:
            texture.filter = (self._gl.LINEAR, self._gl.LINEAR)
        return texture, self.context.framebuffer(depth_attachment=texture)

    def _compile(self) -> dict[str, Any]:
        folder = resources.files("cunet_deploy.synthesis").joinpath("shaders")

        def source(*names: str) -> str:
            return "#version 330\n" + "\n".join(folder.joinpath(f"{name}.glsl").read_text("utf-8") for name in names)

        programs = {
            name: self.context.program(vertex_shader=source("vertex"), fragment_shader=source("common", name))
            for name in MATERIALS
        }
        programs["depth"] = self.context.program(
            vertex_shader=source("depth_vertex"), fragment_shader=source("depth_fragment")
        )
        return programs

    def _noise(self) -> Any:
        """A seamless cloud in three dimensions, the same every time."""
        rough = np.random.default_rng(5).random((_NOISE_SIDE,) * 3)
        cloud = _blur_wrapped(rough, 1.0) + 0.77 * _blur_wrapped(rough, 2.5)
        cloud = np.clip((cloud - cloud.mean()) / cloud.std() * 0.18 + 0.5, 0, 1)
        shifts = ((0, 0, 0), (17, 5, 29), (31, 41, 11), (7, 23, 37))
        four = np.stack([np.roll(cloud, shift, (0, 1, 2)) for shift in shifts], axis=-1)
        texture = self.context.texture3d((_NOISE_SIDE,) * 3, 4, (four * 255).astype(np.uint8).tobytes())
        texture.repeat_x = texture.repeat_y = texture.repeat_z = True
        texture.filter = (self._gl.LINEAR, self._gl.LINEAR)
        texture.use(_UNITS["noise"])
        return texture

    def set(self, **uniforms: Any) -> None:
        """Set uniforms of every program that has them; matrices are (4, 4) arrays that multiply columns."""
        for name, value in uniforms.items():
            if isinstance(value, np.ndarray):
                array = value.T if value.shape == (4, 4) else value
                data = np.ascontiguousarray(array, np.float32).tobytes()
                for uniform in self._users.get(name, ()):
                    uniform.write(data)
            else:
                for uniform in self._users.get(name, ()):
                    uniform.value = value

    def texture(self, name: str, image: NDArray[np.uint8]) -> None:
        """Load (H, W, C) uint8 pixels, bottom row first, as the texture of that name."""
        height, width, channels = image.shape
        old = self._textures.get(name)
        if old is not None and old.size == (width, height):
            old.write(np.ascontiguousarray(image).tobytes())
            old.build_mipmaps()
            return
        texture = self.context.texture((width, height), channels, np.ascontiguousarray(image).tobytes(), alignment=1)
        texture.build_mipmaps()
        texture.filter = (self._gl.LINEAR_MIPMAP_LINEAR, self._gl.LINEAR)
        texture.repeat_x = texture.repeat_y = False
        texture.use(_UNITS[name])
        self._textures[name] = texture

    def surface(
        self,
        triangles: NDArray[np.int32],
        rest: Floats,
        materials: dict[str, NDArray[np.int32]],
        *,
        uv: Floats | None = None,
        ao: Floats | None = None,
    ) -> Surface:
        """A mesh of N vertices that is drawn with one or more materials.

        Args:
            triangles: (T, 3) of its depth.
            rest: (N, 3) texture coordinates in three dimensions.
            materials: for each material the triangles that are drawn with it.
            uv: (N, 2), zeros when left out.
            ao: (N,), ones when left out.
        """
        count = len(rest)
        uv = np.zeros((count, 2), np.float32) if uv is None else uv
        ao = np.ones(count, np.float32) if ao is None else ao
        still = self.context.buffer(np.concatenate([rest, uv, ao[:, None]], axis=1).astype(np.float32).tobytes())
        moving = self.context.buffer(reserve=count * 28, dynamic=True)
        layout = [(moving, "3f 3f 1f", "position", "normal", "extra"), (still, "3f 2f 1f", "rest", "uv", "ao")]
        index = self.context.buffer(triangles.astype(np.int32).tobytes())
        made, arrays = [moving, still, index], {}
        for name, chosen in materials.items():
            own = index if chosen is triangles else self.context.buffer(chosen.astype(np.int32).tobytes())
            arrays[name] = self.context.vertex_array(self._programs[name], layout, own, skip_errors=True)
            made += [own] if own is not index else []
        depth = self.context.vertex_array(self._programs["depth"], [(moving, "3f 16x", "position")], index)
        return Surface(moving, arrays, depth, [*arrays.values(), depth, *reversed(made)])

    @staticmethod
    def move(surface: Surface, positions: Floats, normals: Floats, extra: Floats | None = None) -> None:
        """Put the vertices where they are now: (N, 3) positions, (N, 3) normals, (N,) extra."""
        last = np.zeros(len(positions), np.float32) if extra is None else extra
        table = np.concatenate([positions, normals, last[:, None]], axis=1)
        surface.moving.write(np.ascontiguousarray(table, np.float32).tobytes())

    @staticmethod
    def release(surface: Surface) -> None:
        """Give its memory back."""
        for item in surface.resources:
            item.release()

    def shadows(self, surfaces: list[Surface], projection: NDArray[np.float64]) -> None:
        """Draw the depth map of the key lamp."""
        self._draw_depth(self._shadow[1], surfaces, projection, clear=True)

    def depths(self, surfaces: list[Surface], projection: NDArray[np.float64], *, clear: bool = True) -> Floats:
        """(size, size) depth of the nearest surface in [0, 1], top row first; ``clear`` false keeps the last ones."""
        self._draw_depth(self._view[1], surfaces, projection, clear=clear)
        data = np.frombuffer(self._view[0].read(), np.float32).reshape(self.size, self.size)
        return data[::-1].copy()

    def _draw_depth(
        self, target: Any, surfaces: list[Surface], projection: NDArray[np.float64], *, clear: bool
    ) -> None:
        target.use()
        if clear:
            self.context.clear(depth=1.0)
        self._programs["depth"]["view_projection"].write(projection.T.astype(np.float32).tobytes())
        for surface in surfaces:
            surface.depth.render()

    def begin(self) -> None:
        """Start an empty, transparent picture."""
        self._many.use()
        self.context.clear(0, 0, 0, 0)
        self.context.disable(self._gl.BLEND)

    def draw(self, surface: Surface, material: str) -> None:
        """Draw a mesh with one of its materials and the uniforms as they are."""
        surface.arrays[material].render()

    def front_only(self, on: bool) -> None:
        """Set whether triangles that face away are left out."""
        (self.context.enable if on else self.context.disable)(self._gl.CULL_FACE)

    def coverage(self, on: bool) -> None:
        """Set whether alpha decides how many samples of a pixel are covered."""
        (self.context.enable_direct if on else self.context.disable_direct)(_ALPHA_TO_COVERAGE)

    def blend(self, on: bool) -> None:
        """Set whether alpha lets through what is behind."""
        (self.context.enable if on else self.context.disable)(self._gl.BLEND)
        one = self._gl.ONE
        self.context.blend_func = (self._gl.SRC_ALPHA, self._gl.ONE_MINUS_SRC_ALPHA, one, one)

    def end(self) -> NDArray[np.uint8]:
        """(size, size, 4) BGRA, colours multiplied by alpha, top row first."""
        self.context.copy_framebuffer(self._one, self._many)
        rgba = np.frombuffer(self._one.read(components=4), np.uint8).reshape(self.size, self.size, 4)[::-1]
        return np.ascontiguousarray(rgba[..., [2, 1, 0, 3]])

    def close(self) -> None:
        """Free the context."""
        self.context.release()


def _blur_wrapped(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Gaussian blur of a periodic array along every axis."""
    radius = int(4 * sigma + 0.5)
    kernel = np.asarray(cv2.getGaussianKernel(2 * radius + 1, sigma)).ravel()
    for axis in range(values.ndim):
        values = np.sum([k * np.roll(values, shift - radius, axis) for shift, k in enumerate(kernel)], axis=0)
    return values
