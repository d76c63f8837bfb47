"""PyTorch to ONNX: the user's model is loaded, traced with batch and time free, rewritten, lowered and proven."""
