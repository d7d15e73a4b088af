"""Models as files: reading what came from outside with care, and exporting it to ONNX."""
