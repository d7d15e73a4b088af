"""`strop doctor`: the checks that need no run, on files as they lie: specs, ONNX models, engines, Python programs."""
