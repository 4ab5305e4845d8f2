"""Settings: which there are, where each of them was said, and their typed value."""
