"""Benchmarks: figures in time are shown here, never asserted by tests."""
