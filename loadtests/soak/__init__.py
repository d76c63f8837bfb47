"""A server under hours of mixed traffic: nothing lost, nothing wrong, nothing that grows."""
