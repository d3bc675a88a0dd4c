"""Networks as plain arrays, and as ONNX graphs that answer like Keras at the cost of a text's own steps."""
