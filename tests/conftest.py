"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Let programs that tests start be interrupted, although these tests may run where Ctrl-C is ignored, as with `&`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
