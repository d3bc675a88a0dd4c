"""Old models brought over: Keras's HDF5, tokenizer and metadata become an artifact, without Keras.

Nothing in such a file is ever executed: `hdf5` copies plain arrays and one JSON text out of it in a
process with limits, `layers` turns them into a network by names it knows, `convert` writes it down.
"""
