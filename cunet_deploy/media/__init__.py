"""Frames in, results out: images, videos, JSON Lines, CSV."""

from __future__ import annotations

from cunet_deploy.media.batch import Item, find_items, plan_items
from cunet_deploy.media.frames import Frame, FrameSize, LeftOut, Picture
from cunet_deploy.media.outputs import Outputs
from cunet_deploy.media.pipeline import DEPTH, LIVE_DEPTH, WriteBehind, read_ahead
from cunet_deploy.media.plan import OutputPlan, plan_outputs
from cunet_deploy.media.readers.base import Source
from cunet_deploy.media.readers.files import open_files
from cunet_deploy.media.readers.images import ImageFiles, read_image
from cunet_deploy.media.readers.live import LiveSource
from cunet_deploy.media.readers.sources import READERS, open_source
from cunet_deploy.media.readers.video import VideoFile
from cunet_deploy.media.writers.formats import FORMATS
from cunet_deploy.media.writers.video import WRITABLE_SUFFIXES
from cunet_deploy.media.writers.window import Window

__all__ = [
    "DEPTH",
    "FORMATS",
    "LIVE_DEPTH",
    "READERS",
    "WRITABLE_SUFFIXES",
    "Frame",
    "FrameSize",
    "ImageFiles",
    "Item",
    "LeftOut",
    "LiveSource",
    "OutputPlan",
    "Outputs",
    "Picture",
    "Source",
    "VideoFile",
    "Window",
    "WriteBehind",
    "find_items",
    "open_files",
    "open_source",
    "plan_items",
    "plan_outputs",
    "read_ahead",
    "read_image",
]
