"""Ctrl-C while the status view runs."""

import os
import signal
from contextlib import suppress

import pytest

from serving.status.interrupts import Interrupts


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_it_interrupts_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts():
        press()


def test_one_that_came_to_nothing_is_raised_again() -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        with suppress(KeyboardInterrupt):  # as in a callback of gRPC's core
            press()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_what_runs_in_the_background_goes_on() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            press()
            interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_afterwards_python_does_what_it_did_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before

    assert signal.getsignal(signal.SIGINT) == before
