"""A Triton-compatible model server: one light supervisor, one worker process per model instance."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tritonpy-supervisor")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0.0.0"
