"""Real video, where it is at hand: the default model with and without a detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cunet_deploy import zoo
from cunet_deploy.detection.open import open_detector
from cunet_deploy.geometry import box_iou, landmark_boxes
from cunet_deploy.localizer import Localizer
from cunet_deploy.media import open_source

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(zoo.DEFAULT_MODEL not in zoo.released_models(), reason="the default model is not here yet"),
]

WORDS = "again bird book brother eat help learn milk no please sister sorry student walk yes"
CLIPS = [*(f"asl_{word}.mkv" for word in WORDS.split(" ")), "head-pose-face-detection-female.gif"]


@pytest.mark.parametrize("kind", ["yunet", "full"])
@pytest.mark.parametrize("name", CLIPS)
def test_the_face_is_followed_through_a_real_clip(media_dir: Path, name: str, kind: str) -> None:
    yunet = f"yunet:{media_dir / 'yunet_2026may.onnx'}"
    reference = open_detector(yunet)
    with_face = found = right = 0
    with Localizer(threads=1, detector=yunet if kind == "yunet" else "full") as localizer:
        for frame in localizer.stream(media_dir / name):
            boxes, _ = reference.detect(frame.image)
            with_face += len(boxes) > 0
            if len(boxes) and len(frame.landmarks):
                found += 1
                right += bool(box_iou(landmark_boxes(frame.landmarks.points), boxes).max() > 0.4)
    assert with_face > 20
    assert found >= 0.95 * with_face
    assert right >= 0.95 * found


def test_little_is_found_where_there_are_no_people(media_dir: Path) -> None:
    # an animal with something of a face is in the clip, so not nothing
    detector = f"yunet:{media_dir / 'yunet_2026may.onnx'}"
    for kind, most in (("full", 0.6), (detector, 0.7)):
        with Localizer(threads=1, detector=kind) as localizer:
            counts = [len(frame.landmarks) for frame in localizer.stream(open_source(media_dir / "no_people.mp4"))]
        assert np.mean(np.array(counts) > 0) <= most
