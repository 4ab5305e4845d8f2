"""How this process is, for those who watch it: `/livez`, `/readyz`, `/status` and `/metrics`."""
