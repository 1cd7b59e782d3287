"""Shipped recipes and presets."""
