"""The `broker` commands: one call through a Broker, from the words of a command line to what is shown."""
