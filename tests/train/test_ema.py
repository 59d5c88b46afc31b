"""The average of weights over the steps of training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cunet_deploy.train.ema import EMA


def network(value: float) -> nn.BatchNorm1d:
    """Something with a parameter, a running statistic and a count."""
    made = nn.BatchNorm1d(1)
    with torch.no_grad():
        made.weight.fill_(value)
        made.running_mean.fill_(10 * value)  # type: ignore[union-attr]
    return made


def test_the_decay_grows_from_a_tenth_to_its_limit() -> None:
    ema, expected = EMA(network(0.0), 0.2), 0.0
    for step, decay in enumerate([1 / 10, 2 / 11, 0.2, 0.2]):
        value = float(step + 1)
        ema.update(network(value))
        expected = decay * expected + (1 - decay) * value
        assert ema.network.weight.item() == pytest.approx(expected)
        assert ema.network.running_mean.item() == pytest.approx(10 * expected)
    assert ema.steps == 4


def test_the_average_is_a_copy_that_does_not_learn() -> None:
    trained = network(1.0)
    ema = EMA(trained.train(), 0.9)
    ema.update(network(2.0))
    assert trained.weight.item() == 1
    assert not ema.network.training
    assert not any(value.requires_grad for value in ema.network.parameters())
    assert ema.network.num_batches_tracked.item() == 0
