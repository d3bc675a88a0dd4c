"""A labelled CSV goes in, a production text-classification API comes out."""

__version__ = "0.1.0"
