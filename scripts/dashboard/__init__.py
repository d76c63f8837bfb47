"""The Grafana dashboard, written by `python -m scripts.dashboard` (`make docs`)."""
