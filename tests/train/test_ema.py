"""The average of weights over the steps of training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cunet_deploy.train.ema import EMA


def network(value: float) -> nn.BatchNorm1d:
    """Something with a parameter, a running statistic and a count."""
    made = nn.BatchNorm1d(1)
    made.load_state_dict(
        {**made.state_dict(), "weight": torch.tensor([value]), "running_mean": torch.tensor([10 * value])}
    )
    return made


def state(made: nn.Module) -> dict[str, float]:
    return {name: float(tensor) for name, tensor in made.state_dict().items()}


def test_the_decay_grows_from_a_tenth_to_its_limit() -> None:
    ema, expected = EMA(network(0.0), 0.2), 0.0
    for step, decay in enumerate([1 / 10, 2 / 11, 0.2, 0.2]):
        value = float(step + 1)
        ema.update(network(value))
        expected = decay * expected + (1 - decay) * value
        assert state(ema.network)["weight"] == pytest.approx(expected)
        assert state(ema.network)["running_mean"] == pytest.approx(10 * expected)
    assert ema.steps == 4


def test_the_average_is_a_copy_that_does_not_learn() -> None:
    trained = network(1.0)
    ema = EMA(trained.train(), 0.9)
    ema.update(network(2.0))
    assert state(trained)["weight"] == 1
    assert not ema.network.training
    assert not any(value.requires_grad for value in ema.network.parameters())
    assert state(ema.network)["num_batches_tracked"] == 0
