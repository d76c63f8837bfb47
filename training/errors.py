"""What can go wrong in a recipe, as one class."""


class TrainingError(Exception):
    """A data file is unusable, the training diverged or a needed package is missing; the message says what to do."""
