"""The models of the benchmarks for mosec; run by the Python of its own environment."""

import time

from mosec import Runtime, Server, Worker


class Identity(Worker):
    """Gives back what it is given."""

    def forward(self, data):
        """One request."""
        return data


class Sleep(Worker):
    """Takes 10 ms for a batch of any size."""

    def forward(self, data):
        """A batch."""
        time.sleep(0.010)
        return data


if __name__ == "__main__":
    server = Server()
    server.register_runtime(
        {
            "/identity": [Runtime(Identity)],
            "/sleep": [Runtime(Sleep, max_batch_size=64, max_wait_time=10)],
        }
    )
    server.run()
