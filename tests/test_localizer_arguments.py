"""Arguments of another type than `Localizer` takes: one line that says what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dots import scene

from cunet_deploy import InputError, Localizer


@pytest.fixture(scope="module")
def localizer(dots_model: Path) -> Iterator[Localizer]:
    with Localizer(dots_model, threads=1, detector="full") as opened:
        yield opened


@pytest.mark.parametrize("engine", [None, 3, b"face68-s"])
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
