"""The command `verser2-guest`: parse, call, print. No protocol and no decisions live here.

Modules import click at the top and everything heavier where it is used, so that `--help` and
one-shot commands start fast.
"""
