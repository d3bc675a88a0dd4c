"""The first step: a labelled CSV read, audited, repaired, split; public data sets fetched."""
