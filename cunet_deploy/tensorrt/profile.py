"""Batch sizes that an engine takes, checked before TensorRT sees them: its own messages speak of axes and profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cunet_deploy.errors import InputError

__all__ = ["BatchRange", "Profile", "make_profile", "parse_batch"]

Profile = dict[str, dict[str, list[int]]]
"""Shapes of each input: ``{"image": {"min": [..], "opt": [..], "max": [..]}}``."""

LARGEST_BATCH = 1024


@dataclass(frozen=True)
class BatchRange:
    """The batch sizes of one optimization profile: smallest, the one that kernels are chosen for, largest."""

    smallest: int
    optimal: int
    largest: int

    def __post_init__(self) -> None:
        if not 1 <= self.smallest <= self.optimal <= self.largest <= LARGEST_BATCH:
            raise InputError(
                f"batch sizes {self} must rise from 1 to {LARGEST_BATCH} at most: MIN:OPT:MAX, for example 1:4:8"
            )

    def __str__(self) -> str:
        return f"{self.smallest}:{self.optimal}:{self.largest}"


def parse_batch(text: str) -> BatchRange:
    """Read ``"1:4:8"`` (MIN:OPT:MAX), or ``"4"`` for that size only.

    Raises:
        InputError: it is neither.
    """
    parts = text.split(":")
    if len(parts) not in (1, 3) or not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"batch sizes must be MIN:OPT:MAX such as 1:4:8, or one number; got {text!r}")
    sizes = [int(part) for part in parts]
    return BatchRange(*sizes) if len(sizes) == 3 else BatchRange(sizes[0], sizes[0], sizes[0])


def make_profile(inputs: Mapping[str, Sequence[int | None]], batch: BatchRange | None) -> Profile:
    """The profile of a model.

    Args:
        inputs: shape of each input, batch first, ``None`` where a size is free.
        batch: the wanted sizes; ``None``: the fixed size of the model, or 1:1:16 where it is free.

    Returns:
        Shapes of every input that has a free size; empty for a model without.

    Raises:
        InputError: the model's batch is fixed to another size, or a size other than the batch is free.
    """
    profile: Profile = {}
    for name, shape in inputs.items():
        if not shape or any(size is None for size in shape[1:]):
            raise InputError(f"input {name!r} has shape {list(shape)}: only the first size, the batch, may be free")
        if shape[0] is not None:
            _check_fixed(shape[0], batch)
            continue
        sizes = batch or BatchRange(1, 1, 16)
        rest = [int(size) for size in shape[1:] if size is not None]
        profile[name] = {
            "min": [sizes.smallest, *rest],
            "opt": [sizes.optimal, *rest],
            "max": [sizes.largest, *rest],
        }
    return profile


def _check_fixed(size: int, batch: BatchRange | None) -> None:
    if batch is not None and (batch.smallest, batch.largest) != (size, size):
        raise InputError(
            f"the model has a fixed batch of {size}, so it cannot be built for {batch}; leave the batch out, or export "
            "it again with a free batch: cunet-deploy export CKPT --target tensorrt -o DIR"
        )
