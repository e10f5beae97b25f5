"""The network as ONNX files, and how near their answers are."""
