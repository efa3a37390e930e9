"""Triton's wire contracts: our own .proto files and the code generated from them."""
