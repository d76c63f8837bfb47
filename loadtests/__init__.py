"""Measurements of the exporter and the server, each with its record."""
