"""Export to ONNX, and how close the exported network is to the model."""
