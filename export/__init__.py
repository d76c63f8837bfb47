"""lstm-export: turns a trained PyTorch LSTM into an ONNX model folder with proofs, in FP32 and INT8."""
