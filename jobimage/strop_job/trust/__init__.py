"""What lets a stranger rely on a published folder: provenance, signature, model card, verification, later checks."""
