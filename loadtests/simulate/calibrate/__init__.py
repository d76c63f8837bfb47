"""Measures what a real server takes on this machine, and compares one simulated replica with it."""
