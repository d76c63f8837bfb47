"""The model repository: what lies on disk, which versions of it serve, and how that changes while the server runs."""

from serving.repository.registry import Model, Repository, Runnable, Status, Version

__all__ = ["Model", "Repository", "Runnable", "Status", "Version"]
