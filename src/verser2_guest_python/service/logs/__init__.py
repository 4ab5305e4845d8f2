"""Logs: which lines a process writes, in which look, and where they go without holding it up."""

from verser2_guest_python.service.logs.setup import Formatter

__all__ = ["Formatter"]  # the name that configurations of `logging` give
