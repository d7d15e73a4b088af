"""Quantizing an ONNX graph: Q/DQ or integer operators, casts, 4-bit weights."""
