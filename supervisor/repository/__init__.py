"""The model repository: what lies on disk."""
