"""Worker processes: spawn, watch, restart, lend to schedulers."""
