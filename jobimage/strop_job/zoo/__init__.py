"""Architectures in the worker image, called by name from a spec. Each imports torch."""
