"""The daemons: a Guest, several of its workers, a Host, a gateway. Settings in, exit code out."""
