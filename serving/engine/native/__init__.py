"""Exact INT8 for recurrent layers: a C++ engine, and the session that runs a model's parts in turn."""
