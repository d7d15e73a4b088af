"""Data sets by source, models, and mismatches planted on purpose: the material of bench_calibration_audit.py."""
