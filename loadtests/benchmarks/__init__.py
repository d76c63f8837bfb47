"""Benchmarks of models without a server, one module each; run them as programs."""
