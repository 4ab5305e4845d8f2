"""`config show` and `config check`: what is in force, and what is wrong with it."""
