from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: how long an example takes says more about the machine's load than about the code. CI tries the same
# examples each time; at the desk they are new ones.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

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
