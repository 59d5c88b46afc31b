"""The data that a configuration names: several sources, each with its layout, its landmarks and its weight."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from cunet_deploy.config import Config, DataConfig, SourceConfig
from cunet_deploy.data.agreement import apply_agreement
from cunet_deploy.data.boxes import read_boxes
from cunet_deploy.data.examples import BoxedPhoto, Example
from cunet_deploy.data.faces import LAYOUT as FACES
from cunet_deploy.data.readers import find_layout, read_examples, split_name
from cunet_deploy.errors import ConfigError
from cunet_deploy.skeletons import Skeleton

__all__ = ["finds_people", "read_box_sources", "read_sources"]


def read_sources(config: DataConfig, data: Path, skeleton: Skeleton, bad: list[str] | None = None) -> list[Example]:
    """The labelled objects of all sources.

    An object of a source of weight w is drawn as often in an epoch as w says, rounded up, and its labels count what is
    missing to w: with 1.5 twice, each time with 0.75.

    Args:
        config: names the sources.
        data: the folder that they are in.
        skeleton: whose landmarks are wanted; those that a source does not have are not labelled in it.
        bad: where to note what cannot be used; ``None`` makes the first one an error.

    Raises:
        ConfigError: a source asks for other boxes, which networks that find landmarks do not learn.
        InputError: a source is missing, or something in it is bad and ``bad`` is ``None``.
    """
    for source in config.parts:
        if source.boxes:
            raise ConfigError(f'[data] sources: {source.path!r}: boxes is for skeleton = "box"; leave it out')
    return [example for source in config.parts for example in _read_source(source, data, skeleton, bad)]


def _read_source(source: SourceConfig, data: Path, skeleton: Skeleton, bad: list[str] | None) -> list[Example]:
    examples = read_examples(data / source.path, skeleton, source.layout or None, bad)
    if source.labels:
        examples = apply_agreement(examples, data / source.labels, skeleton, bad)
    times = math.ceil(source.weight)
    each = source.weight / times
    found = []
    for example in examples:
        if each == 1 and not source.unlabelled:
            weights = example.weights
        else:
            weights = np.full(len(skeleton), each) if example.weights is None else each * example.weights
        if weights is not None and source.unlabelled == "ignore":
            weights = np.where(np.isfinite(example.points).all(axis=1), weights, 0.0)
        visible = example.visible
        if visible is None and source.visibility == "unknown":
            visible = np.full(len(skeleton), np.nan)
        known = replace(example, source=source.path, exhaustive=source.exhaustive)
        found.append(replace(known, weights=weights, times=times, visible=visible))
    return found


def read_box_sources(config: Config, data: Path, bad: list[str] | None = None) -> list[BoxedPhoto]:
    """The photos with boxes of all sources, each as often as its weight says.

    Args:
        config: names the sources, and says how the boxes that are to be found differ from tight ones around landmarks.
        data: the folder that the sources are in.
        bad: where to note what cannot be used; ``None`` makes the first one an error.

    Raises:
        ConfigError: a weight is no whole number, or a source asks for what boxes do not have.
        InputError: as `read_sources`.
    """
    found = []
    for source in config.data.parts:
        landmarks = source.labels or source.unlabelled or source.visibility or not source.exhaustive
        if source.weight != round(source.weight) or landmarks:
            raise ConfigError(
                f'[data] sources: {source.path!r}: for skeleton = "box" weight is a whole number, and there are no '
                "labels, unlabelled, visibility and exhaustive"
            )
        photos = read_boxes(data / source.path, source.layout or None, bad, bodies=source.boxes == "bodies")
        if source.boxes == "tight":
            photos = [replace(photo, boxes=config.boxes.code.from_tight(photo.boxes)) for photo in photos]
        found += [replace(photo, times=round(source.weight)) for photo in photos]
    return found


def finds_people(config: Config, data: Path) -> bool:
    """Return whether a network that finds boxes is to find people, as `read_backgrounds` wants to know."""
    if config.boxes.finds:
        return config.boxes.finds == "people"
    layouts = (
        source.layout or find_layout(split_name(data / source.path)[0], of_boxes=True) for source in config.data.parts
    )
    return any(layout != FACES.name for layout in layouts)
