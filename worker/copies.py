"""How many bytes of tensors this worker has copied: the measure of what it is for to avoid."""

from __future__ import annotations


class Copies:
    """Running totals of bytes.

    `joined` to one array from the requests of a batch, `guarded` for models that write to what
    others read too, `fetched` from the memory of clients, `placed` of outputs where they are read.
    """

    __slots__ = ("fetched", "guarded", "joined", "placed")

    def __init__(self) -> None:
        self.joined = self.guarded = self.fetched = self.placed = 0

    def __repr__(self) -> str:
        return (
            f"<Copies: {self.joined} bytes joined, {self.guarded} guarded, {self.fetched} fetched, "
            f"{self.placed} placed>"
        )


#: Of the whole process. Threads of a model may add at the same time, so it is no exact account.
COPIES = Copies()
