"""Foreign weight files read into released names: ONNX, GGUF, the wheels that carry them."""
