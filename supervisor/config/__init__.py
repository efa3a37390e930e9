"""Model configurations: read, complete, check, and write them."""
