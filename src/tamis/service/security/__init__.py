"""Which client sent a request, what it may do and how often. Knows no route and no model."""
