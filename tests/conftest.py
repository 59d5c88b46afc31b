from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from fake_tensorrt import FakeCuda

# No deadline: how long an example takes says more about the machine's load than about the code. The examples are the
# same in every run, so that a test fails because of a change and not by chance; HYPOTHESIS_PROFILE=fresh tries others.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("fresh", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# A shell starts what it leaves in the background with Ctrl-C ignored, and programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What tests open does not end up in the cache of whoever runs them; tests of the cache name a folder of their own.
os.environ["CUNET_CACHE"] = "off"

# Most released models are for research only; tests of the variable set it themselves.
os.environ.pop("CUNET_LICENCE", None)

ROOT = Path(__file__).resolve().parent.parent


def _local_folder(variable: str, default: Path) -> Path:
    folder = Path(os.environ[variable]) if variable in os.environ else default
    if not folder.is_dir():
        pytest.skip(f"{variable} does not name a folder and {default} does not exist: no local data to test with")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder that holds ``300w/`` and ``lspet/``; the test is skipped where there is none."""
    return _local_folder("CUNET_DATA", ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def media_dir() -> Path:
    """Folder that holds the clips; the test is skipped where there is none."""
    return _local_folder("CUNET_MEDIA", ROOT.parent / "shared" / "media")


@pytest.fixture(scope="session")
def astronaut() -> Path:
    """A photo of 400 x 400 with one large face."""
    return Path(__file__).parent / "data" / "astronaut.jpg"


@pytest.fixture(scope="session")
def dots_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file with a manifest whose network finds five coloured dots; see `dots`."""
    from dots import write_model

    return write_model(tmp_path_factory.mktemp("dots") / "dots.onnx")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A GPU with TensorRT, both fakes; there is no other TensorRT in this process. See `fake_tensorrt`."""
    from fake_tensorrt import FakeCuda, make_module

    from cunet_deploy.tensorrt import cuda as cuda_library
    from cunet_deploy.tensorrt import log as trt_logger

    fake = FakeCuda()
    monkeypatch.setattr(cuda_library, "open_cuda", lambda graphs=False: fake)
    monkeypatch.setitem(sys.modules, "tensorrt", make_module(fake))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setattr(trt_logger, "_loggers", {})
    monkeypatch.setattr(trt_logger, "_errors", [])
    return fake


@pytest.fixture
def make_engine(dots_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes an engine of `dots_model` for that GPU; arguments as `fake_tensorrt.write_engine`."""
    from fake_tensorrt import write_engine

    def write(**changes: Any) -> Path:
        return write_engine(dots_model, tmp_path / "dots.engine", **changes)

    return write
