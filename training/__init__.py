"""Small recipes on real data: each trains a model, judges it on held-out rows and writes what the exporter needs."""
