"""Certificates as a process has to do with them: made for development, looked at, and watched on disk."""
