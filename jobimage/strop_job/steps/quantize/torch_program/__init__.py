"""Quantizing torch programs: what the step selects, INT8 with observed ranges (pt2e), and bf16. Imports torch."""
