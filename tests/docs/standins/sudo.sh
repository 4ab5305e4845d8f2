# `sudo`: does the command as whoever runs the tests, in directories of the page.
exec "$@"
