"""lstm-serve: serves model folders with recurrent models over the Open Inference Protocol (gRPC)."""

import os
from importlib.metadata import version

__version__ = version("lstm-serving")

# gRPC core writes to stderr by itself, past the log, and reads how much when it is imported: without this it has a line
# for each handshake that fails, which any client can cause.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
