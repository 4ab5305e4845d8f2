"""Tests of `verser2_guest_python.http2`: one HTTP/2 session over TLS."""
