"""A model of NVIDIA Triton's Python backend: `Handler` behind Triton's scheduler.

``cunet-deploy export --target triton`` writes the model repository whose model.py names the class here. Triton's own
module, ``triton_python_backend_utils``, exists in its process only.
"""

from __future__ import annotations

import importlib
import json
import logging
from pathlib import Path
from typing import Any

from cunet_deploy.errors import InputError
from cunet_deploy.serve.handler import INTERNAL_ERROR, Handler

__all__ = ["TritonPythonModel"]

_LOG = logging.getLogger(__name__)


class TritonPythonModel:
    """Entry point of Triton's Python backend, which gives it its name and methods."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the networks.

        The configuration may name ``detector``, ``backend``, ``threads`` and ``licence`` as parameters; see `Handler`.

        Args:
            args: of Triton: the folder and the version of the model, and its configuration as JSON.
        """
        self._triton: Any = importlib.import_module("triton_python_backend_utils")
        parameters = json.loads(args["model_config"]).get("parameters", {})
        given = {name: item["string_value"] for name, item in parameters.items()}
        self._handler = Handler(
            Path(args["model_repository"]) / args["model_version"] / "model.onnx",
            detector=given.get("detector"),
            backend=given.get("backend"),
            threads=int(given.get("threads", "1")),
            licence=given.get("licence"),
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request; one that cannot be answered gets an error and does not touch the others."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        triton = self._triton
        try:
            image, frame, boxes = (self._input(request, name) for name in ("image", "frame", "boxes"))
            found = self._handler.answer(image=None if image is None else bytes(image[0]), frame=frame, boxes=boxes)
            return triton.InferenceResponse([triton.Tensor(name, values) for name, values in found.items()])
        except InputError as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error), triton.TritonError.INVALID_ARG))
        except Exception:  # noqa: BLE001  what leaves `execute` fails all requests of the call
            _LOG.exception("a request failed")
            return triton.InferenceResponse(error=triton.TritonError(INTERNAL_ERROR, triton.TritonError.INTERNAL))

    def _input(self, request: Any, name: str) -> Any:
        """An input as an array; ``None`` where it was left out."""
        tensor = self._triton.get_input_tensor_by_name(request, name)
        return None if tensor is None else tensor.as_numpy()

    def finalize(self) -> None:
        """Release the networks."""
        self._handler.close()
