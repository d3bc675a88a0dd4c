"""What a server loads: models' files in memory, and the scorers that answer with them.

Numpy, the native library and ONNX Runtime only; what trains these models is `tamis.training.trainers`.
"""
