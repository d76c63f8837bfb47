"""How requests arrive and answers leave: Open Inference Protocol over gRPC. Knows no batching and no engine."""
