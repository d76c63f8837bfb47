"""What ends a look, as classes; each message says what was tried, what came of it and what to do."""


class CannotLook(Exception):  # noqa: N818  named for what the person sees
    """The server cannot be reached, or does not let this caller look."""


class NoMetrics(Exception):  # noqa: N818
    """The page of metrics cannot be had; what the calls say is shown without it."""
