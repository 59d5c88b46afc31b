"""Arguments of another type than `Localizer` takes: one line that says what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dots import box, scene

from cunet_deploy import InputError, Localizer, Smoothing
from cunet_deploy.media import LiveSource
from cunet_deploy.sessions import open_session


@pytest.fixture(scope="module")
def localizer(dots_model: Path) -> Iterator[Localizer]:
    with Localizer(dots_model, threads=1, detector="full") as opened:
        yield opened


@pytest.mark.parametrize("engine", [None, 3, b"face68-s", SimpleNamespace(run=print)])
def test_what_is_no_engine_is_refused(engine: Any) -> None:
    with pytest.raises(InputError, match=r"engine is .*; expected a bundle folder, an \.onnx or \.engine file"):
        Localizer(engine)


@pytest.mark.parametrize("threads", ["2", 1.5, 0])
def test_threads_are_a_whole_number(dots_model: Path, threads: Any) -> None:
    with pytest.raises(InputError, match="threads must be a whole number from 1"):
        Localizer(dots_model, threads=threads)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (scene()[0], {}, "source is one image, not successive ones; give it to predict, or in a list"),
        (None, {}, "source is NoneType; expected a path or URL"),
        (0, {}, r'source is int; expected a path or URL, the number of a camera as text \("0"\)'),
        ("", {}, "a source is an empty text"),
        (b"clip.mp4", {}, "source is bytes; expected a path or URL"),
        ([scene()[0]], {"smooth": "off"}, "smooth is 'off'; expected True, False or a Smoothing"),
        (scene()[0][..., 0], {}, "source is one image"),
        ([scene()[0]], {"stop": True}, r"stop is True; expected a threading\.Event or None"),
        ([scene()[0]], {"follow": "no"}, "follow is 'no'; expected True, False or None"),
    ],
)
def test_misuse_of_stream_is_said(localizer: Localizer, source: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(localizer.stream(source, **options))


def test_misuse_of_video_is_said(localizer: Localizer) -> None:
    wrong: Any = "off"
    with pytest.raises(InputError, match="smooth is 'off'"):
        localizer.video(smooth=wrong)
    step: Any = localizer.video()
    with pytest.raises(InputError, match=r"state is method; expected what VideoStep\.state\(\) returns"):
        localizer.video(state=step.state)


def test_successive_images_may_be_one_array(localizer: Localizer) -> None:
    frames = np.stack([scene()[0]] * 2)
    assert len(list(localizer.stream(frames))) == 2
    assert len(list(localizer.stream(frames[..., 0]))) == 2


class _Camera:
    """As much of ``cv2.VideoCapture`` as is needed to be refused."""

    released = False

    def isOpened(self) -> bool:  # noqa: N802  OpenCV's name
        return True

    def get(self, prop: int) -> float:
        return 0.0

    def release(self) -> None:
        self.released = True


@pytest.mark.parametrize(
    ("options", "opened"), [({"smooth": Smoothing(both_ways=True)}, 1), ({"follow": "no"}, 0), ({"stop": True}, 0)]
)
def test_a_camera_is_released_where_the_arguments_are_refused(
    localizer: Localizer, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], opened: int
) -> None:
    cameras: list[_Camera] = []

    def open_source(text: str) -> LiveSource:
        cameras.append(_Camera())
        connect: Any = lambda: cameras[-1]  # noqa: E731
        return LiveSource(connect, name=text, stem=text, advice="")

    monkeypatch.setattr("cunet_deploy.localizer.open_source", open_source)
    with pytest.raises(InputError) as caught:
        list(localizer.stream("0", **options))
    assert caught.traceback  # as a debugger does, it keeps the frames of the call alive
    assert [camera.released for camera in cameras] == [True] * opened


def test_networks_that_were_given_open_are_left_open(dots_model: Path) -> None:
    session = open_session(dots_model, threads=1)
    with Localizer(session, detector="full") as localizer:
        expected = localizer.predict(scene()[0], box()).points
    with pytest.raises(InputError, match="is not known"):
        Localizer(session, detector="haar")
    with Localizer(session, detector="full") as localizer:
        assert np.array_equal(localizer.predict(scene()[0], box()).points, expected)
    session.close()


class _Returning:
    """A detector of a user's own that returns what it was given."""

    every, retry, exact = 15, 3, False

    def __init__(self, found: Any, confident_score: float) -> None:
        self.found, self.confident_score = found, confident_score

    def detect(self, image: Any, index: int = 0, name: str = "", known: Any = None) -> Any:
        return self.found

    def close(self) -> None:
        pass


@pytest.mark.parametrize("confident_score", [0.0, 0.95])
@pytest.mark.parametrize("found", [([], []), (np.zeros(0), np.zeros(0)), ([[120, 80, 200, 160]], [0.9])], ids=str)
def test_a_detector_of_ones_own_may_return_lists(dots_model: Path, found: Any, confident_score: float) -> None:
    with Localizer(dots_model, threads=1, detector=_Returning(found, confident_score)) as localizer:
        image, points = scene()
        expected = len(found[0])
        assert len(localizer.predict(image)) == len(localizer.video().update(image)) == expected
        if expected:
            assert np.abs(localizer.predict(image).points[0] - points).max() < 1


@pytest.mark.parametrize("confident_score", [0.0, 0.95])
@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "cannot unpack"),
        (np.array([[120.0, 80, 200, 160]]), "not enough values"),
        ((np.full((4, 5), 0.9), np.ones(4)), r"boxes must have shape \(N, 4\)"),  # as YOLO: a score in each row
        (([[120, 80, 200, 160]], [0.9, 0.8]), r"scores of shape \(2,\) came with 1 boxes"),
        (([[120, 80, 200, 160]], [float("nan")]), r"scores of shape \(1,\) came with 1 boxes"),
        (([[120, 80, 120, 160]], [0.9]), r"box 0 is \[120, 80, 120, 160\]"),
        (([[120, 80, float("nan"), 160]], [0.9]), "box 0 is"),
    ],
    ids=["nothing", "boxes alone", "scores in the rows", "scores too many", "score NaN", "no area", "box NaN"],
)
def test_another_result_of_a_detector_is_refused(
    dots_model: Path, found: Any, reason: str, confident_score: float
) -> None:
    with Localizer(dots_model, threads=1, detector=_Returning(found, confident_score)) as localizer:
        for look in (localizer.predict, localizer.video().update):
            with pytest.raises(InputError, match=rf"_Returning\.detect returned .* scores \(N,\): .*{reason}"):
                look(scene()[0])
