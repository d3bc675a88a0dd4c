"""Trains the network: embedding, spatial dropout, LSTM, softmax, with Keras on JAX."""
