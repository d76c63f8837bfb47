"""The demo: train, export, quantize, serve and call three models on real data, and show what came of it."""
