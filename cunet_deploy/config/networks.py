"""Rules of a configuration for each kind of network; the networks are in `cunet_deploy.model.networks`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["NETWORK_RULES", "NetworkRules"]


@dataclass(frozen=True)
class NetworkRules:
    """Values that a kind of network allows in ``[model]``.

    Attributes:
        fixed: keys that have one value only.
        channels_multiple: what ``channels`` must be a multiple of.
        has_one_head: it is supervised at its end only, whatever ``num_losses`` says.
        concatenates: it has concatenations, which memory-efficient training computes again.
    """

    fixed: Mapping[str, object] = field(default_factory=dict)
    channels_multiple: int = 2
    has_one_head: bool = False
    concatenates: bool = True


NETWORK_RULES = {
    "cunet": NetworkRules(),
    "hourglass": NetworkRules(
        {"order": 0, "passes": 1, "block": "pre", "stem": "conv7"}, channels_multiple=4, concatenates=False
    ),
    "dense_unet": NetworkRules({"order": 0, "passes": 1}, has_one_head=True),
}
"""Rules by ``[model] kind``."""
