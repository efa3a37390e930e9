"""`check`: what serving a repository would refuse, told without serving it."""
