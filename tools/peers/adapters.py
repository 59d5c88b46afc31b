"""Face landmark models of other projects, behind one call: a photo and a face's tight box in, 68 landmarks out.

Nothing of them is stored here. Their files are given by the user or taken out of wheels that the user downloads; what
is not installed is left out, and said.
"""

from __future__ import annotations

import importlib
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy.errors import InputError, MissingDependencyError
from cunet_deploy.geometry import Crop
from cunet_deploy.heatmaps import Decoder, decode, map_to_input
from cunet_deploy.locate import locate
from cunet_deploy.sessions import model_file, open_session
from cunet_deploy.sessions.base import Session

__all__ = ["Dlib", "Maps", "MediaPipe", "Ours", "Peer", "load_litert", "mediapipe_file", "random_network", "rgb_crop"]

Image = NDArray[np.uint8]
Points = NDArray[np.float64]

# Vertices of MediaPipe's face mesh that lie nearest to the 68 landmarks, in their order.
MESH_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),  # contour
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),  # brows
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),  # nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),  # mouth
)


class Peer(Protocol):
    """A model that is timed and, where it has weights, measured."""

    @property
    def name(self) -> str:
        """Name in the report."""
        ...

    @property
    def trained(self) -> bool:
        """Return whether it has trained weights for the 68 face landmarks."""
        ...

    @property
    def bytes(self) -> int | None:
        """Size of its file, where it has one."""
        ...

    def prepare(self, image: Image, box: Points) -> Any:
        """Prepare the input of the network, from (H, W, 3) BGR and a tight (4,) xyxy box of the landmarks."""
        ...

    def network(self, prepared: Any) -> Any:
        """Run the network alone."""
        ...

    def finish(self, prepared: Any, output: Any) -> Points | None:
        """(68, 2) landmarks in the image; ``None`` where it has no such output."""
        ...


@dataclass(frozen=True, eq=False)
class Ours:
    """A model of this project, or anything else behind a `Session`."""

    name: str
    session: Session
    bytes: int | None = None
    trained: bool = True

    @classmethod
    def load(cls, name: str, threads: int) -> Ours:
        """Open a model as `cunet_deploy.sessions.open_session` takes it."""
        return cls(name, open_session(name, threads=threads), model_file(name, None).stat().st_size)

    def prepare(self, image: Image, box: Points) -> tuple[Crop, Image]:
        """See `Peer`."""
        from cunet_deploy.preprocess import sample

        crop = self.session.manifest.crop.crop(box)
        return crop, sample(image, crop)[None]

    def network(self, prepared: tuple[Crop, Image]) -> NDArray[np.float32]:
        """See `Peer`."""
        return self.session.run(prepared[1])

    def finish(self, prepared: tuple[Crop, Image], output: NDArray[np.float32]) -> Points:
        """See `Peer`."""
        manifest = self.session.manifest
        cells, _ = decode(output, manifest.decoder)
        return prepared[0].to_image(map_to_input(cells, manifest.stride)[0])

    def points(self, image: Image, boxes: Points) -> Points:
        """(N, 68, 2) landmarks, as the runtime finds them."""
        return np.asarray(locate(self.session, image, boxes)[0], np.float64)


@dataclass(frozen=True, eq=False)
class MediaPipe:
    """MediaPipe's face mesh of 468 vertices (192 px), run by LiteRT; 68 of its vertices are compared.

    Attributes:
        interpreter: with the network loaded.
        bytes: size of the file.
        padding: side of the crop divided by the longer side of the box. MediaPipe crops 1.5 times around the whole
            mesh, forehead included; this multiple of the box of the 68 landmarks was the best on training photos.
        up: how far the crop's centre lies above the box's, in longer sides of the box: the forehead again.
    """

    interpreter: Any
    bytes: int | None
    padding: float = 1.5
    up: float = 0.0
    name: str = "MediaPipe face landmark, LiteRT"
    trained: bool = True

    @classmethod
    def load(cls, file: Path, threads: int) -> MediaPipe:
        """Load the network from a .tflite file or a wheel of mediapipe.

        Raises:
            MissingDependencyError: LiteRT is not installed.
            InputError: there is no such network in the file.
        """
        content = mediapipe_file(file, "face_landmark/face_landmark.tflite")
        return cls(load_litert(content, threads, file), len(content))

    def prepare(self, image: Image, box: Points) -> tuple[Crop, NDArray[np.float32]]:
        """See `Peer`."""
        crop = _crop(box, self.padding, 192, self.up)
        return crop, rgb_crop(image, crop)[None].astype(np.float32) * np.float32(1 / 255)

    def network(self, prepared: tuple[Crop, NDArray[np.float32]]) -> NDArray[np.float32]:
        """See `Peer`."""
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], prepared[1])
        self.interpreter.invoke()
        return np.asarray(self.interpreter.get_tensor(self.interpreter.get_output_details()[0]["index"]))

    def finish(self, prepared: tuple[Crop, NDArray[np.float32]], output: NDArray[np.float32]) -> Points:
        """See `Peer`."""
        return self._mesh(prepared[0], output)[list(MESH_68)]

    def locate(self, image: Image, box: Points) -> Points:
        """(68, 2) landmarks as MediaPipe finds them in video: from an upright crop around the mesh found before."""
        prepared = self.prepare(image, box)
        mesh = self._mesh(prepared[0], self.network(prepared))
        right, left = mesh[33], mesh[263]
        angle = float(np.degrees(np.arctan2(*(left - right)[::-1])))
        upright = Crop((0.0, 0.0), 192.0, 192, angle).to_input(mesh)
        low, high = upright.min(axis=0), upright.max(axis=0)
        center = Crop((0.0, 0.0), 192.0, 192, angle).to_image((low + high) / 2)
        crop = Crop((float(center[0]), float(center[1])), 1.5 * float((high - low).max()), 192, angle)
        pixels = rgb_crop(image, crop)[None].astype(np.float32) * np.float32(1 / 255)
        return self._mesh(crop, self.network((crop, pixels)))[list(MESH_68)]

    @staticmethod
    def _mesh(crop: Crop, output: NDArray[np.float32]) -> Points:
        """(468, 2) vertices in the image. The network's pixels have (0, 0) at the corner of the picture."""
        return crop.to_image(output.reshape(-1, 3)[:, :2].astype(np.float64) - 0.5)


@dataclass(frozen=True, eq=False)
class Dlib:
    """dlib's ensemble of regression trees for 68 points; its published file saw the HELEN test photos in training."""

    predictor: Any
    module: Any
    bytes: int | None
    padding: float = 1.1
    up: float = 0.1
    name: str = "dlib 68-point predictor"
    trained: bool = True

    @classmethod
    def load(cls, file: Path) -> Dlib:
        """Load ``shape_predictor_68_face_landmarks.dat``."""
        module = _module("dlib", "dlib-bin")
        if not file.is_file():
            raise InputError(f"{file}: does not exist; expected dlib's shape_predictor_68_face_landmarks.dat")
        return cls(module.shape_predictor(str(file)), module, file.stat().st_size)

    def prepare(self, image: Image, box: Points) -> tuple[Image, Any]:
        """See `Peer`.

        dlib's own face boxes are square; of the squares around the landmarks that were tried on training photos (1.0
        to 1.3 times the box, 0.05 to 0.25 higher) this one is best.
        """
        crop = _crop(box, self.padding, 32, self.up)
        (x, y), half = crop.center, crop.side / 2
        return image, self.module.rectangle(*(round(value) for value in (x - half, y - half, x + half, y + half)))

    def network(self, prepared: tuple[Image, Any]) -> Any:
        """See `Peer`."""
        return self.predictor(*prepared)

    def finish(self, prepared: tuple[Image, Any], output: Any) -> Points:
        """See `Peer`."""
        return np.array([(output.part(index).x, output.part(index).y) for index in range(68)], np.float64)


@dataclass(frozen=True, eq=False)
class Maps:
    """A network that returns heatmaps for a float RGB crop; for networks with random weights, timed only."""

    name: str
    run: Callable[[NDArray[np.float32]], Any]
    size: int
    bytes: int | None = None
    trained: bool = False

    def prepare(self, image: Image, box: Points) -> tuple[Crop, NDArray[np.float32]]:
        """See `Peer`."""
        crop = _crop(box, 1.4, self.size)
        pixels = rgb_crop(image, crop).transpose(2, 0, 1)[None].astype(np.float32)
        return crop, pixels * np.float32(1 / 255)

    def network(self, prepared: tuple[Crop, NDArray[np.float32]]) -> NDArray[np.float32]:
        """See `Peer`."""
        return np.asarray(self.run(prepared[1]), np.float32)

    def finish(self, prepared: tuple[Crop, NDArray[np.float32]], output: NDArray[np.float32]) -> None:
        """See `Peer`; the maps are decoded, since that is part of the time it would take."""
        decode(output, Decoder(1))


def _module(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{package} is not installed: pip install {package}") from error


def load_litert(content: bytes, threads: int, file: Path) -> Any:
    """An interpreter of LiteRT for the content of a .tflite file, ready to run.

    Raises:
        MissingDependencyError: LiteRT is not installed.
        InputError: it cannot run that; the message names the file that it is from.
    """
    litert = _module("ai_edge_litert.interpreter", "ai-edge-litert")
    try:
        interpreter = litert.Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{file}: is not a network that LiteRT runs ({error})") from error
    return interpreter


def mediapipe_file(file: Path, member: str) -> bytes:
    """The network in a .tflite file, or ``member`` of mediapipe/modules in a wheel (0.10.14 is one that has them)."""
    if not file.is_file():
        raise InputError(f"{file}: does not exist; pip download --no-deps mediapipe==0.10.14 gets a wheel that has it")
    if file.suffix != ".whl":
        return file.read_bytes()
    try:
        with zipfile.ZipFile(file) as wheel:
            return wheel.read(f"mediapipe/modules/{member}")
    except zipfile.BadZipFile as error:
        raise InputError(f"{file}: is not a wheel ({error}); download it again") from error
    except KeyError as error:
        raise InputError(f"{file}: has no {member}; mediapipe 0.10.14 has it, 1.x wheels do not") from error


def _crop(box: Points, padding: float, size: int, up: float = 0.0) -> Crop:
    x0, y0, x1, y1 = (float(value) for value in box)
    side = max(x1 - x0, y1 - y0)
    return Crop(((x0 + x1) / 2, (y0 + y1) / 2 - up * side), side * padding, size)


def rgb_crop(image: Image, crop: Crop) -> Image:
    """(size, size, 3) uint8 RGB, as our own preprocessing samples it."""
    from cunet_deploy.preprocess import sample

    return np.asarray(cv2.cvtColor(sample(image, crop), cv2.COLOR_BGR2RGB), np.uint8)


def random_network(name: str, module: Any, size: int, threads: int) -> Sequence[Peer]:
    """A torch network with random weights in ONNX Runtime and in torch, for its speed only."""
    import onnxruntime
    import torch

    torch.set_num_threads(threads)
    module = module.eval()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(module, (torch.zeros(1, 3, size, size),), str(path), dynamo=False, opset_version=17)
        content = path.read_bytes()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feed, last = session.get_inputs()[0].name, session.get_outputs()[-1].name

    def run_onnx(x: NDArray[np.float32]) -> Any:
        return session.run([last], {feed: x})[0]

    return [
        Maps(f"{name}, ONNX Runtime float, random weights", run_onnx, size, len(content)),
        Maps(f"{name}, torch, random weights", partial(_run_torch, module), size),
    ]


def _run_torch(module: Any, x: NDArray[np.float32]) -> Any:
    import torch

    with torch.inference_mode():
        output = module(torch.from_numpy(x))
    return (output[-1] if isinstance(output, (list, tuple)) else output).numpy()
