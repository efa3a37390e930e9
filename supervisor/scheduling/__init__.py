"""Schedulers: which requests run together, and when."""
