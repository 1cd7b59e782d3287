"""Tiers: models run layer by layer, with heads at chosen depths."""
