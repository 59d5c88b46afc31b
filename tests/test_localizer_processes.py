"""A localizer in other processes: pickled, forked, spawned; and detectors of one's own."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dots import TEMPLATE, draw

from cunet_deploy import InputError, Localizer
from cunet_deploy import localizer as localizer_module
from cunet_deploy.sessions import Session, open_session

# Python 3.12 and later warn of what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

PICTURE = draw((TEMPLATE * 32 + [150, 110])[None], 32, (240, 320))


def points(localizer: Localizer) -> list[float]:
    found: list[float] = localizer.predict(PICTURE).points.ravel().tolist()
    return found


def test_a_pickled_localizer_opens_itself_again(dots_model: Path) -> None:
    with Localizer(dots_model, threads=1, detector="full") as localizer:
        expected = points(localizer)
        data = pickle.dumps(localizer)
    assert len(data) < 1000  # how it was opened, not the network
    with pickle.loads(data) as again:
        assert points(again) == expected
        assert again.manifest.name == "dots"


def test_a_localizer_of_an_open_session_says_why_it_cannot_be_pickled(dots_model: Path) -> None:
    with Localizer(open_session(dots_model, threads=1)) as localizer, pytest.raises(TypeError, match="from a path"):
        pickle.dumps(localizer)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_pool_of_processes_takes_a_localizer(dots_model: Path, method: str) -> None:
    with Localizer(dots_model, threads=2) as localizer:
        expected = points(localizer)
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map_async(points, [localizer] * 4).get(60) == [expected] * 4
        assert points(localizer) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_opens_the_networks_again_for_their_threads_stay_behind(
    dots_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []

    def count(engine: Path, **options: Any) -> Session:
        opened.append(engine)
        return open_session(engine, **options)

    monkeypatch.setattr(localizer_module, "open_session", count)
    with Localizer(dots_model, threads=2, detector="full") as localizer:
        expected = points(localizer)
        child = os.fork()
        if not child:
            signal.alarm(30)
            found = [points(localizer), points(localizer)]
            os._exit(len(opened) if found == [expected, expected] else 99)
        status = os.waitpid(child, 0)[1]
        assert os.waitstatus_to_exitcode(status) == 2  # once by the parent, once by the child
        assert points(localizer) == expected
    assert len(opened) == 1


class Half:
    every, retry, exact = 1, 1, False

    def detect(self, image: np.ndarray) -> None:
        raise AssertionError("it is refused before")


def test_a_detector_that_lacks_something_is_refused_by_name(dots_model: Path) -> None:
    with pytest.raises(InputError, match=r"needs confident_score, close as well; see cunet_deploy\.Detector"):
        Localizer(dots_model, detector=Half())  # type: ignore[arg-type]
