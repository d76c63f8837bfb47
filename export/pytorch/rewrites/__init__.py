"""Edits of the traced graph: what covers time covers real steps only, and outputs become batch-first."""

from export.pytorch.rewrites.axes import Axes, find_axes
from export.pytorch.rewrites.boundary import make_batch_first
from export.pytorch.rewrites.padding import read_by_lengths

__all__ = ["Axes", "find_axes", "make_batch_first", "read_by_lengths"]
