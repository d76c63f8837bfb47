"""Load for a server of the Open Inference Protocol: what is sent when, what came of it, and is that good enough."""
