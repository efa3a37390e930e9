"""The backends: one file for each framework, none of which knows another."""
