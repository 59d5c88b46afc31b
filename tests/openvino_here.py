"""Skips tests where OpenVINO is not installed, without importing it, which would report to its maker."""

from __future__ import annotations

import importlib.util

import pytest

__all__ = ["needs_openvino"]

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="openvino is not installed; run: pip install 'cunet-deploy[openvino]'",
)
