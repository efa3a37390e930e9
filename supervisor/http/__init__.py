"""The HTTP frontend: translates the v2 protocol to and from the server's own terms."""
