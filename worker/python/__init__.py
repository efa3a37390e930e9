"""The python backend: runs a model.py written for Triton."""
