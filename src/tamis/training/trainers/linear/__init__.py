"""Trains the linear model: counts features once, weighs them, and solves for the weights."""
