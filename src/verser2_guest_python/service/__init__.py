"""One running process: what it needs, and a library must not do.

Its rooms stand on each other as the floors do: a process, its output and its settings below, the daemons
and `dev` above. Nothing is imported here, so that a command loads only the modules that it uses.
"""
