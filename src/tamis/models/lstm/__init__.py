"""The network: embedding, spatial dropout, LSTM, softmax.

`tokenizer` and `padding` are numpy and the standard library alone and serve; `network`, `learning`
and `classifier` learn and need Keras on JAX.
"""
