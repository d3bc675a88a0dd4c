"""A model over HTTP: what is asked and answered, how it is documented, and how it fails."""
