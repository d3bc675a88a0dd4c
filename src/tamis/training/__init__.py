"""From labelled texts to a measured, calibrated model: prepare, train, calibrate, evaluate."""
