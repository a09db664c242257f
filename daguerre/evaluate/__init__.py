"""Judges what a model draws: every figure with its interval, and beside it the same figure for real pictures."""
