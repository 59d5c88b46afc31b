from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from opengl import need_renders
from synthesis_names import TARGET_NAMES

from cunet_deploy.cli import cli
from cunet_deploy.data.ibug import read_pts
from cunet_deploy.errors import InputError
from cunet_deploy.synthesis.options import FaceOptions
from cunet_deploy.synthesis.recipe import sample_face
from cunet_deploy.synthesis.turns import TurnOptions, turned

OPTIONS = TurnOptions(FaceOptions(yaw=80.0), fps=20.0, seconds=4.0)


def test_a_head_turns_to_both_sides_and_back() -> None:
    person = sample_face(OPTIONS.faces, 0, TARGET_NAMES)
    yaws = [turned(person, OPTIONS, frame).pose.yaw for frame in range(81)]
    assert yaws[0] == pytest.approx(0)
    assert yaws[20] == pytest.approx(80)
    assert yaws[60] == pytest.approx(-80)
    assert yaws[80] == pytest.approx(0, abs=1e-9)


def test_it_stays_the_same_person_and_moves_smoothly() -> None:
    person = sample_face(OPTIONS.faces, 0, TARGET_NAMES)
    frames = [turned(person, OPTIONS, frame) for frame in range(80)]
    assert all(frame.person == person.person and frame.appearance == person.appearance for frame in frames)
    assert max(abs(b.pose.yaw - a.pose.yaw) for a, b in itertools.pairwise(frames)) < 7
    assert any("unit/eyeBlinkLeft" in frame.expression.weights for frame in frames)
    assert len({frame.lens.seed for frame in frames}) == 80  # noise is new in every frame


@pytest.mark.parametrize(("given", "said"), [({"fps": 0.0}, "fps is 0"), ({"seconds": 0.0}, "seconds is 0")])
def test_a_value_out_of_range_is_named(given: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TurnOptions(**given)  # type: ignore[arg-type]


def test_a_clip_has_its_landmarks_for_each_frame(tmp_path: Path) -> None:
    need_renders()
    arguments = ["synth", "turn", "-o", str(tmp_path), "--fps", "6", "--seconds", "1", "--size", "96", "--workers", "1"]
    result = CliRunner().invoke(cli, arguments, prog_name="cunet-deploy")
    assert result.exit_code == 0, result.stderr
    capture = cv2.VideoCapture(str(tmp_path / "clip.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (6, 6)
    lines = [json.loads(line) for line in (tmp_path / "frames.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(6))
    noses = [read_pts(tmp_path / "frames" / f"{number:06d}.pts", 68)[30, 0] for number in range(6)]
    assert np.argmax(noses) in (1, 2)  # to the right first
    assert np.argmin(noses) in (4, 5)
