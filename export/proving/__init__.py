"""What decides whether a version is written, and what is measured of it for its report."""
