"""The worker: a process that runs one instance of one model."""
