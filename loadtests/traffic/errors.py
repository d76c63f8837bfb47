"""What can go wrong before or beside the load, as one class."""


class TrafficError(Exception):
    """What was asked for cannot be done; the message says what was wrong, what was expected, and what to do."""
