"""`verser2-guest dev`: an app, a Host before it and a gateway before that, in one command."""
