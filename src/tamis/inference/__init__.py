"""Texts in, predictions out, with numpy and without any training library."""
