"""What computes a batch: the engine's interface, ONNX Runtime behind it, and the CPU budget they live in."""
