"""lstm-serve: serves model folders with recurrent models over the Open Inference Protocol (gRPC)."""

from importlib.metadata import version

__version__ = version("lstm-serving")
