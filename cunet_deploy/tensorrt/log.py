"""The log of TensorRT. It allows one logger per process: a second is ignored, so this one is made once and kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

__all__ = ["Record", "capture", "get_logger", "last_error"]

_log = logging.getLogger(__name__)
_ERRORS = ("INTERNAL_ERROR", "ERROR")
_loggers: dict[str, Any] = {}
_captures: list[list[Record]] = []
_errors: list[str] = []


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
        """Return whether it reports an error."""
        return self.severity in _ERRORS


def get_logger(module: ModuleType) -> Any:
    """The logger of ``tensorrt`` or ``tensorrt_rtx``: the same object on every call in this process.

    It passes messages on to Python's logging, errors and warnings as information, the rest for debugging: what goes
    wrong is raised and said once, by this package. Every open `capture` receives them too.
    """
    name = module.__name__
    if name not in _loggers:
        _loggers[name] = _make_logger(module)
    return _loggers[name]


def last_error() -> str:
    """Return the last error that TensorRT reported, on one line, to be part of a message."""
    return " ".join(_errors[-1].split())[:300] if _errors else "it gave no reason"


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
        if record.is_error:
            _errors[:] = [record.message]
        for records in _captures:
            records.append(record)
        level = logging.INFO if record.is_error or record.severity == "WARNING" else logging.DEBUG
        _log.log(level, "%s: %s", trt.__name__, record.message)

    def init(self: Any) -> None:
        trt.ILogger.__init__(self)

    return type("_Logger", (trt.ILogger,), {"__init__": init, "log": log})()
