"""Bundles: the folder that a build writes and a pipeline loads."""
