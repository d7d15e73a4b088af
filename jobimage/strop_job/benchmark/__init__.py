"""Latency of several variants of one model, each in a process of its own, taking turns."""
