"""What can go wrong in an export, as classes; each message says what came, what was expected and what to do."""

from serving.errors import ArtifactError


class ExportError(ArtifactError):
    """The model, its weights, the description of its inputs or the data cannot be used as they are."""


class ProofFailed(ExportError):  # noqa: N818  named for what the user sees
    """A check of the finished file failed, so nothing was written."""


class CarriedStateUnsupported(ExportError):  # noqa: N818
    """The graph was asked for with carried state, but a recurrent layer does not run over the inputs' rows and steps.

    The exporter then makes a graph without it; users never see this error.
    """
