"""One running process: settings, logs, signals, exit codes, development certificates.

What a process needs and a library must not do. Nothing is imported here, so that a command loads
only the modules that it uses.
"""
