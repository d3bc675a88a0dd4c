"""The call log over HTTP: who called what, and when, a page at a time."""
