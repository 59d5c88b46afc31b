from __future__ import annotations

import numpy as np
import pytest
from dots import DOTS, TEMPLATE

from cunet_deploy import drawing
from cunet_deploy.drawing import PARTS, Style, draw_into
from cunet_deploy.errors import InputError
from cunet_deploy.landmarks import Landmarks


def _landmarks(*centers: tuple[float, float], half: float = 30) -> Landmarks:
    points = np.array([TEMPLATE * half + np.array(center) for center in centers], np.float32).reshape(-1, 5, 2)
    count = len(points)
    boxes = np.zeros((count, 4), np.float32)
    return Landmarks(points, np.ones((count, 5), np.float32), boxes, DOTS, np.arange(count, dtype=np.int64))


def test_plot_draws_into_a_copy() -> None:
    image = np.full((200, 200, 3), 90, np.uint8)
    drawn = _landmarks((100, 100)).plot(image)
    assert drawn.shape == image.shape
    assert (image == 90).all()
    assert (drawn != 90).any()


@pytest.mark.parametrize("kind", ["grey", "grey with a channel", "BGRA", "16 bits"])
def test_plot_takes_what_predict_takes(kind: str) -> None:
    image = np.full((200, 200, 3), 90, np.uint8)
    image[40:60] = 200
    made = {
        "grey": image[:, :, 0],
        "grey with a channel": image[:, :, :1],
        "BGRA": np.concatenate([image, image[:, :, :1]], axis=2),
        "16 bits": image.astype(np.uint16) << 8,
    }[kind]
    result = _landmarks((100, 100))
    np.testing.assert_array_equal(result.plot(made), result.plot(image))


def test_every_landmark_and_edge_is_visible() -> None:
    result = _landmarks((100, 100))
    drawn = result.plot(np.full((200, 200, 3), 90, np.uint8)).astype(int)
    for x, y in result.points[0].round().astype(int):
        assert np.abs(drawn[y, x] - 90).max() > 60
    for a, b in DOTS.edges:
        x, y = result.points[0][[a, b]].mean(axis=0).round().astype(int)
        assert np.abs(drawn[y, x] - 90).max() > 60


def test_no_object_changes_nothing() -> None:
    image = np.full((20, 30, 3), 90, np.uint8)
    np.testing.assert_array_equal(Landmarks.empty(DOTS).plot(image), image)


def test_lines_grow_with_the_object() -> None:
    def share(size: int) -> float:
        image = np.full((size, size, 3), 90, np.uint8)
        return float((_landmarks((size / 2, size / 2), half=size / 3).plot(image) != 90).any(axis=2).mean())

    assert share(2000) > 0.3 * share(500)


def test_numbers_stand_beside_several_objects_only() -> None:
    image = np.full((200, 400, 3), 90, np.uint8)
    one, two = (image != _landmarks(*centers).plot(image) for centers in (((100, 100),), ((100, 100), (300, 100))))
    assert two[:, :200].sum() > one[:, :200].sum()


def drawn(result: Landmarks, *parts: str, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    """Mask of what is drawn with these parts: True where the picture changed."""
    image = np.full((*size, 3), 90, np.uint8)
    style = Style(**{part: part in parts for part in PARTS})
    draw_into(image, result.points, result.ids, DOTS, scores=result.scores, boxes=result.boxes, style=style)
    return np.asarray((image != 90).any(axis=2))


def test_each_part_is_drawn_alone() -> None:
    result = _landmarks((160, 130))
    result.boxes[:] = [[100, 80, 220, 200]]
    parts = {part: drawn(result, part) for part in PARTS}
    assert not drawn(result).any()
    assert all(part.any() for part in parts.values())
    assert parts["box"][80, 160]
    assert parts["box"][140, 100]
    assert not parts["box"][84:196, 104:216].any()
    for x, y in result.points[0].round().astype(int):
        assert parts["points"][y, x]
    assert parts["ids"][:100].any()
    assert not parts["ids"][100:].any()
    assert parts["scores"].sum() > parts["ids"].sum()


def test_a_style_is_a_list_of_parts() -> None:
    assert Style.of(["box", " scores"]) == Style(points=False, lines=False, ids=False, scores=True, box=True)
    for parts in (["boxes"], [""], []):
        with pytest.raises(InputError, match="choose from points, lines, ids, scores, box"):
            Style.of(parts)


@pytest.mark.parametrize("size", [(120, 160), (480, 640), (1080, 1920), (2160, 3840)])
def test_numbers_are_as_high_as_can_be_read_in_the_whole_picture(size: tuple[int, int]) -> None:
    written = drawn(_landmarks((size[1] / 2, size[0] / 2), half=20), "ids", size=size)
    rows = np.flatnonzero(written.any(axis=1))
    assert np.ptp(rows) >= 8
    assert 0.02 < np.ptp(rows) / size[0] < 0.12


@pytest.mark.parametrize("place", [(0, 0), (320, 0), (0, 240), (320, 240), (-900, 4000)])
def test_numbers_stay_within_the_picture(place: tuple[float, float]) -> None:
    assert drawn(_landmarks(place), "ids", "scores").sum() > 60


def test_a_number_keeps_its_colour_and_neighbours_differ() -> None:
    def colours(identity: int) -> set[tuple[int, ...]]:
        image = np.zeros((200, 200, 3), np.uint8)
        points = TEMPLATE[None].astype(np.float32) * 60 + 100
        draw_into(image, points, np.array([identity]), DOTS)
        values, counts = np.unique(image.reshape(-1, 3), axis=0, return_counts=True)
        return {tuple(value.tolist()) for value, count in zip(values, counts, strict=True) if count > 60}

    assert colours(3) == colours(3)
    assert all(colours(number) != colours(number + 1) for number in range(9))


def test_colours_of_neighbours_differ_in_lightness_or_in_what_the_colour_blind_see() -> None:
    # what people without red cones, or without green ones, see: Viénot, Brettel and Mollon (1999), linear light
    protan = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    deutan = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    lines = np.array([line[::-1] for line, _ in drawing._PALETTE]) / 255
    for seen in (protan, deutan):
        shades = ((lines**2.2) @ seen.T).clip(0, 1) ** (1 / 2.2)
        for index in range(len(shades)):
            other = shades[(index + 1) % len(shades)]
            assert np.abs(shades[index] - other).max() > 0.15


def test_landmarks_far_outside_do_no_harm() -> None:
    _landmarks((1e9, -1e9)).plot(np.zeros((20, 20, 3), np.uint8))


@pytest.mark.parametrize("image", [np.zeros((9, 9, 2), np.uint8), np.zeros((9, 9, 3), np.float32)])
def test_plot_needs_an_image(image: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"\(H, W, 3\) BGR"):
        _landmarks((4, 4)).plot(image)


def test_a_sheet_has_its_pictures_in_order_and_is_filled_with_black() -> None:
    tiles = [np.full((4, 6, 3), value, np.uint8) for value in (1, 2, 3)]
    sheet = drawing.contact_sheet(tiles, 2)
    assert sheet.shape == (8, 12, 3)
    assert sheet[::4, ::6, 0].tolist() == [[1, 2], [3, 0]]
    assert drawing.contact_sheet(tiles, 3).shape == (4, 18, 3)


def test_hidden_landmarks_have_no_dot_and_thin_lines() -> None:
    result = _landmarks((100, 100), half=60)
    scores = np.array([[0.9, 0.9, 0.4, 0.9, 0.9]], np.float32)

    def drawn(visible_score: float | None) -> np.ndarray:
        canvas = np.full((200, 200, 3), 90, np.uint8)
        style = Style(visible_score=visible_score)
        draw_into(canvas, result.points, result.ids, DOTS, scores=scores, style=style)
        return np.asarray((canvas != 90).any(axis=2))

    everything, thinned = drawn(None), drawn(0.5)
    np.testing.assert_array_equal(everything, drawn(0.3))
    assert thinned.sum() < everything.sum()
    x, y = result.points[0, 2].round().astype(int)
    around = np.s_[y - 3 : y + 4, x - 3 : x + 4]
    assert thinned[around].sum() < everything[around].sum()
    x, y = result.points[0, 4].round().astype(int)
    around = np.s_[y - 3 : y + 4, x - 3 : x + 4]
    np.testing.assert_array_equal(thinned[around], everything[around])
