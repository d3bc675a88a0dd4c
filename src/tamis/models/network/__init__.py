"""Networks: tokenizer, padding, and the ONNX graph in ONNX Runtime."""
