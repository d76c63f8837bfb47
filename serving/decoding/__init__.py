"""Text from log-probabilities. Pure: numpy only; no I/O, threads, wire or manifest."""
