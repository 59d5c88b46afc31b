"""The Ray Serve application: what it asks Ray for, and what a request is answered with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cunet_deploy import Localizer
from cunet_deploy.errors import InputError
from cunet_deploy.serve import app, ray_app
from cunet_deploy.serve.ray_app import RayService


class Request:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def body(self) -> bytes:
        return self._body


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the two modules that come with Ray Serve."""

    class Deployment:
        def __init__(self, service: type, **options: Any) -> None:
            self.service, self.options = service, options

        def bind(self, *arguments: Any) -> Any:
            return self.service, arguments, self.options

    class JSONResponse:
        def __init__(self, content: Any, status_code: int) -> None:
            self.content, self.status_code = content, status_code

    ray: Any = ModuleType("ray.serve")
    ray.deployment = Deployment
    starlette: Any = ModuleType("starlette.responses")
    starlette.JSONResponse = JSONResponse
    modules = {"ray.serve": ray, "starlette.responses": starlette}
    monkeypatch.setattr(ray_app, "require", lambda name, extra: modules[name])


@pytest.mark.usefixtures("libraries")
def test_settings_become_replicas_and_threads() -> None:
    service, arguments, options = app({"model": "face68-xs", "replicas": "3", "threads": "2"})
    assert service is RayService
    assert arguments == ("face68-xs", "", "", 2, "")
    assert (options["num_replicas"], options["ray_actor_options"]["num_cpus"]) == (3, 2)
    assert options["max_queued_requests"] == 64
    for wrong, message in (({"modle": "x"}, "'modle' is unknown"), ({"replicas": "no"}, "replicas must be an integer")):
        with pytest.raises(InputError, match=message):
            app(wrong)


@pytest.mark.usefixtures("libraries")
def test_a_picture_is_answered_with_lists_and_anything_else_with_400(astronaut: Path) -> None:
    service = RayService("face68-xs", "", "", 1)
    found = asyncio.run(service(Request(astronaut.read_bytes())))
    with Localizer("face68-xs") as localizer:
        import cv2

        expected = localizer.predict(np.asarray(cv2.imread(str(astronaut)), np.uint8))
    np.testing.assert_allclose(found["landmarks"], expected.points)
    assert found["ids"] == [0]
    refused = asyncio.run(service(Request(b"garbage")))
    assert refused.status_code == 400
    assert "not an image" in refused.content["error"]


@pytest.mark.usefixtures("libraries")
def test_a_request_that_fails_is_answered_with_500_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    service = RayService("face68-xs", "", "", 1)

    def fail(**sent: Any) -> Any:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(service._handler, "answer", fail)
    refused = asyncio.run(service(Request(b"picture")))
    assert refused.status_code == 500
    assert refused.content == {"error": "internal error; the log of the server has the details"}
    assert "RuntimeError: the device is gone" in caplog.text
