"""A classifier as an ONNX file: written, made smaller, checked against the model that it came from."""
