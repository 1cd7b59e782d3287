"""Confidence-based early exits: heads, confidence measures, calibrated reliability."""
