"""The report and the model card: what was measured, as pages that people look at."""
