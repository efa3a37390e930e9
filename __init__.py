"""A Triton-compatible model server: one light supervisor, one worker process per model instance."""


def __getattr__(name: str) -> str:
    """`__version__`, read from the installed metadata when somebody asks: workers never do."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tritonpy-supervisor")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0.0.0"
