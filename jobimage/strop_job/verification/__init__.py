"""The two checks of an engine: that it is its own graph (parity), and how close it is to the original (fidelity)."""
