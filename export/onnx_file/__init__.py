"""`lstm-export onnx`: ONNX files made by others, freed in batch and time, given `lengths` and state, and proven.

Which axis of which tensor is batch or time is found by running every node at three sizes of both and looking at which
numbers change with them; no shape has to be believed. What the file says of its values' shapes is not read.
"""
