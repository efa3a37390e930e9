"""`run-model`: one model, its worker in the terminal, its endpoints in a child process."""
