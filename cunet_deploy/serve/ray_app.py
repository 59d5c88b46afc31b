"""A Ray Serve application: POST a picture, get boxes, landmarks, scores and ids as JSON.

``serve run cunet_deploy.serve:app model=face68-s replicas=4`` starts it. Each replica answers one request at a time;
where too many wait, Ray answers with status 503, what is no picture is answered with 400, and any other error with 500.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from cunet_deploy._optional import require
from cunet_deploy.errors import InputError
from cunet_deploy.serve.handler import INTERNAL_ERROR, MAX_PIXELS, Handler
from cunet_deploy.zoo import DEFAULT_MODEL

__all__ = ["RayService", "app"]

_LOG = logging.getLogger(__name__)

QUEUE_SIZE = 64
"""Number of requests that may wait for the replicas."""

SETTINGS = {"model": DEFAULT_MODEL, "detector": "", "backend": "", "licence": "", "threads": "1", "replicas": "1"}
"""Settings of ``serve run`` with their defaults; see `cunet_deploy.serve.handler.Handler`."""


class RayService:
    """Answers HTTP requests with a `Handler`; Ray makes one in each replica."""

    def __init__(self, model: str, detector: str, backend: str, threads: int, licence: str = "") -> None:
        self._handler = Handler(
            model, detector=detector or None, backend=backend or None, threads=threads, licence=licence or None
        )

    async def __call__(self, request: Any) -> Any:
        """Answer one request, whose body is an encoded picture."""
        responses = require("starlette.responses", extra="serve")
        body = await request.body()
        try:
            found = self._handler.answer(image=body)
        except InputError as error:
            return responses.JSONResponse({"error": str(error)}, status_code=400)
        except Exception:  # noqa: BLE001  Ray would answer in a form of its own
            _LOG.exception("a request failed")
            return responses.JSONResponse({"error": INTERNAL_ERROR}, status_code=500)
        return {name: values.tolist() for name, values in found.items()}


def app(settings: Mapping[str, str]) -> Any:
    """Build the application that ``serve run`` starts; see `SETTINGS`.

    Raises:
        MissingDependencyError: Ray Serve is not installed.
        InputError: a setting is unknown.
    """
    unknown = settings.keys() - SETTINGS.keys()
    if unknown:
        raise InputError(f"setting {min(unknown)!r} is unknown; expected some of {', '.join(SETTINGS)}")
    chosen = {**SETTINGS, **settings}
    threads, replicas = (_count(name, chosen[name]) for name in ("threads", "replicas"))
    # OpenCV reads the limit when it is loaded: files that unpack to more are refused, not unpacked
    environment = {"env_vars": {"OPENCV_IO_MAX_IMAGE_PIXELS": str(MAX_PIXELS)}}
    deployment = require("ray.serve", extra="serve").deployment(
        RayService,
        num_replicas=replicas,
        max_ongoing_requests=1,
        max_queued_requests=QUEUE_SIZE,
        ray_actor_options={"num_cpus": threads, "runtime_env": environment},
    )
    return deployment.bind(chosen["model"], chosen["detector"], chosen["backend"], threads, chosen["licence"])


def _count(name: str, text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise InputError(f"setting {name} must be an integer from 1, got {text!r}")
    return int(text)
