"""Answers to Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal

import pytest

from cunet_deploy.cli._interrupts import interrupt_flag


def test_a_handler_that_is_not_of_python_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda number: None)
        with interrupt_flag():
            assert signal.signal(signal.SIGTERM, before) == before
