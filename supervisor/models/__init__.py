"""The lifecycle of models and their versions."""
