"""Generated from `proto/open_inference.proto` by `make proto`; a test regenerates and compares."""
