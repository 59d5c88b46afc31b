"""The log of TensorRT. It allows one logger per process: a second is ignored, so this one is made once and kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

__all__ = ["Record", "capture", "get_logger"]

_log = logging.getLogger(__name__)
_LEVELS = {
    "INTERNAL_ERROR": logging.ERROR,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.INFO,
    "VERBOSE": logging.DEBUG,
}
_loggers: dict[str, Any] = {}
_captures: list[list[Record]] = []


@dataclass(frozen=True)
class Record:
    """A message of TensorRT.

    Attributes:
        severity: "INTERNAL_ERROR", "ERROR", "WARNING", "INFO" or "VERBOSE".
        message: the text, which may have many lines.
    """

    severity: str
    message: str

    @property
    def is_error(self) -> bool:
        """Whether it reports an error."""
        return _LEVELS.get(self.severity) == logging.ERROR


def get_logger(module: ModuleType) -> Any:
    """The logger of ``tensorrt`` or ``tensorrt_rtx``: the same object on every call in this process.

    It passes messages on to Python's logging, each one level lower (what TensorRT takes for worth a warning is
    information to a user of this package), and to every open `capture`.
    """
    name = module.__name__
    if name not in _loggers:
        _loggers[name] = _make_logger(module)
    return _loggers[name]


@contextmanager
def capture() -> Iterator[list[Record]]:
    """A list that receives every message of TensorRT while the block runs, at any level."""
    records: list[Record] = []
    _captures.append(records)
    try:
        yield records
    finally:
        _captures.remove(records)


def _make_logger(module: ModuleType) -> Any:
    trt: Any = module

    def log(_: Any, severity: Any, message: str) -> None:
        record = Record(getattr(severity, "name", str(severity)), str(message))
        for records in _captures:
            records.append(record)
        level = _LEVELS.get(record.severity, logging.DEBUG)
        _log.log(max(level - 10, logging.DEBUG), "%s: %s", trt.__name__, record.message)

    def init(self: Any) -> None:
        trt.ILogger.__init__(self)

    return type("_Logger", (trt.ILogger,), {"__init__": init, "log": log})()
