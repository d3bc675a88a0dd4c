"""The web page at `/ui`: its files, written by hand and served as they are, and what serves them."""
