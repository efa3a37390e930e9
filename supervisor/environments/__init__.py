"""Execution environments: the Python that a model brings along instead of the server's own."""
