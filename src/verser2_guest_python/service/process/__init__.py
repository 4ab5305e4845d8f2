"""One process of this program: its loop, signals, exit code, and the workers that it may have.

Apart from the daemons because it knows nothing of Guests and Hosts: whatever runs for long needs this.
"""
