"""Loss that training minimizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import tiny_config

from cunet_deploy.heatmaps import map_to_input
from cunet_deploy.train.loss import WINDOW, heatmap_loss, landmark_loss, make_targets, match_heights, total_loss, trust

CONFIG = tiny_config(crop={"size": 64}, train={"coordinate_weight": 0.01})


def points(*cells: tuple[float, float]) -> np.ndarray:
    return map_to_input(np.array([cells]), 4)


def test_the_perfect_map_has_no_loss() -> None:
    targets = make_targets(points((5.3, 7.8), (2.0, 3.5)), CONFIG)
    assert total_loss([targets.maps, targets.maps], targets, CONFIG).item() == pytest.approx(0, abs=1e-9)


def test_a_miss_on_the_peak_costs_ten_times_a_miss_beside_it() -> None:
    targets = make_targets(points((5.0, 5.0)), CONFIG)
    on, beside = targets.maps.clone(), targets.maps.clone()
    on[0, 0, 5, 5] -= 0.1
    beside[0, 0, 14, 14] -= 0.1
    ratio = heatmap_loss(on, targets, 9.0) / heatmap_loss(beside, targets, 9.0)
    assert ratio.item() == pytest.approx(10, rel=1e-3)


def test_a_miss_costs_its_square_by_the_cells_of_the_known_landmarks() -> None:
    for cells in (((5.0, 5.0),), ((5.0, 5.0), (np.nan, np.nan))):
        targets = make_targets(points(*cells), CONFIG)
        maps = targets.maps.clone()
        maps[0, 0, 14, 14] += 0.4
        assert heatmap_loss(maps, targets, 9.0).item() == pytest.approx(0.16 / 256, rel=1e-3)
        assert heatmap_loss(maps, targets, 9.0, lambda count: 2 * count).item() == pytest.approx(0.08 / 256, rel=1e-3)


def test_every_supervised_unet_counts_alike() -> None:
    targets = make_targets(points((5.0, 5.0)), CONFIG)
    wrong = make_targets(points((7.0, 5.0)), CONFIG).maps
    alone = total_loss([wrong], targets, CONFIG).item()
    assert alone > 0
    for maps in ([wrong, wrong], [wrong, targets.maps], [targets.maps, wrong]):
        share = sum(each is wrong for each in maps) / 2
        assert total_loss(maps, targets, CONFIG).item() == pytest.approx(share * alone, rel=1e-5)


def test_a_landmark_beyond_the_map_is_known_and_has_no_place_to_find() -> None:
    targets = make_targets(points((5.0, 6.0), (-3.0, 5.0), (5.0, 40.0), (16.0, 5.0)), CONFIG)
    assert targets.known.tolist() == [[1, 1, 1, 1]]
    assert targets.present.tolist() == [[1, 0, 0, 0]]
    assert targets.points[0].tolist() == [[5, 6], [0, 0], [0, 0], [0, 0]]


def test_a_label_counts_as_much_as_its_weight_says() -> None:
    cells = points((5.0, 5.0), (10.0, 5.0))  # mirror images in a map of 16 cells
    targets = make_targets(cells, CONFIG, np.array([[1.0, 0.25]]))
    assert targets.known.tolist() == targets.present.tolist() == [[1, 0.25]]
    maps = torch.zeros_like(targets.maps, requires_grad=True)
    total_loss([maps], targets, CONFIG).backward()
    assert maps.grad is not None
    first, second = maps.grad[0].abs().amax(dim=(1, 2)).tolist()
    assert second == pytest.approx(first / 4, rel=1e-3)


def test_unlabelled_landmarks_do_not_count_and_absent_ones_do() -> None:
    nan, inf = (np.nan, np.nan), (np.inf, np.inf)
    targets = make_targets(np.array([[nan, inf, (20.0, 20.0)]]), CONFIG)
    assert targets.known.tolist() == [[0, 1, 1]]
    assert targets.present.tolist() == [[0, 0, 1]]
    wrong = targets.maps.clone().requires_grad_()
    total_loss([wrong + 0.5], targets, CONFIG).backward()
    assert wrong.grad is not None
    assert wrong.grad[0].abs().sum(dim=(1, 2)).gt(0).tolist() == [False, True, True]


def test_unlabelled_landmarks_are_taught_to_be_nowhere_when_asked_for() -> None:
    config = tiny_config(crop={"size": 64}, train={"coordinate_weight": 0.01, "unlabelled": "empty"})
    targets = make_targets(np.array([[(np.nan, np.nan), (20.0, 20.0)]]), config)
    assert targets.known.tolist() == [[1, 1]]
    assert targets.present.tolist() == [[0, 1]]
    assert not targets.maps[0, 0].any()


def test_a_label_counts_less_where_the_network_is_sure_of_another_place() -> None:
    nan = (np.nan, np.nan)
    targets = make_targets(points((5.0, 5.0), (5.0, 5.0), (5.0, 5.0), nan), CONFIG)
    maps = torch.zeros(1, 4, 16, 16)
    maps[0, 0, 12, 12] = 0.8  # sure, and elsewhere
    maps[0, 1, 6, 6] = 0.8  # about there
    maps[0, 2, 12, 12] = 0.1  # elsewhere, and not sure
    maps[0, 3, 12, 12] = 0.8
    assert trust(maps, targets, 0.5)[0].tolist() == pytest.approx([0.6, 1, 0.95, 1])
    robust = tiny_config(crop={"size": 64}, train={"robust": 0.5})
    plain = tiny_config(crop={"size": 64})
    assert total_loss([maps], targets, robust) < total_loss([maps], targets, plain)
    assert total_loss([targets.maps], targets, robust).item() == 0
    both = [maps, targets.maps]  # the last U-Net has learnt most, and agrees with the label
    assert total_loss(both, targets, robust).item() == total_loss(both, targets, plain).item()


def test_the_landmark_loss_grows_with_the_shift_of_the_peak() -> None:
    targets = make_targets(points((6.0, 7.0)), CONFIG)
    losses = [
        landmark_loss(make_targets(points((6.0 + shift, 7.0)), CONFIG).maps, targets).item()
        for shift in (0, 0.2, 0.5, 1)
    ]
    assert losses[0] == pytest.approx(0, abs=1e-9)
    assert losses == sorted(losses)
    # under the window the centroid moves by less than the peak; smooth L1 takes half of beta, 0.1, off
    moved = WINDOW**2 / (WINDOW**2 + CONFIG.heatmap.sigma**2)
    assert losses[3] == pytest.approx(moved - 0.05, abs=0.01)


def test_every_supervised_unet_gets_a_gradient() -> None:
    targets = make_targets(points((6.0, 7.0)), CONFIG)
    maps = [torch.zeros_like(targets.maps, requires_grad=True) for _ in range(3)]
    total_loss(maps, targets, CONFIG).backward()
    assert all(map_.grad is not None and map_.grad.any() for map_ in maps)


HIDING = tiny_config(crop={"size": 64}, train={"coordinate_weight": 0.01}, heatmap={"hidden_peak": 0.5})


def test_hidden_landmarks_have_lower_targets_where_that_is_asked_for() -> None:
    cells, visible = points((5.0, 7.0), (5.0, 7.0), (5.0, 7.0)), np.array([[1.0, 0.0, np.nan]])
    for config, peaks in ((HIDING, [1.0, 0.5, 1.0]), (CONFIG, [1.0, 1.0, 1.0])):
        maps = make_targets(cells, config, visible=visible).maps
        assert maps.amax(dim=(2, 3))[0].tolist() == peaks


@pytest.mark.parametrize(("height", "wanted"), [(0.1, 0.5), (0.7, 0.7), (1.0, 1.0), (1.2, 1.0)])
def test_where_nobody_knows_what_is_visible_any_height_between_is_right(height: float, wanted: float) -> None:
    targets = make_targets(points((5.0, 7.0), (9.0, 4.0)), HIDING, visible=np.array([[np.nan, 1.0]]))
    own = match_heights(height * targets.maps, targets, 0.5).maps
    assert own.amax(dim=(2, 3))[0].tolist() == pytest.approx([wanted, 1.0])
    told = targets.maps[:, 1:], targets._replace(**{name: value[:, 1:] for name, value in targets._asdict().items()})
    free = targets.maps[:, :1] * wanted, targets._replace(**{n: value[:, :1] for n, value in targets._asdict().items()})
    for maps, its in (told, free):
        assert total_loss([maps], its, HIDING).item() == pytest.approx(0, abs=1e-9)
