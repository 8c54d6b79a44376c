"""The receipts that a virtual node keeps for good: one a round, each naming the one before it, as the shell's."""

from __future__ import annotations

from pneumod.core.events import ReceiptMissing

Named = dict[str, ReceiptMissing | None]  # by digest: the receipt before it, as its bytes say


class Receipts:
    """One file a run and round; another receipt of that round takes its place."""

    __slots__ = ("files", "named")

    def __init__(self, named: Named) -> None:
        self.named = named  # what every receipt of this world says: whoever has one can read it
        self.files: dict[tuple[str, int], str] = {}  # digest by run and round

    def __contains__(self, digest: str) -> bool:
        return digest in self.files.values()

    def gap(self, newest: str) -> ReceiptMissing | None:
        """The first that is missing on the way back from the receipt `newest`; None without one."""
        kept = set(self.files.values())
        while newest in kept:
            before = self.named[newest]
            if before is None or before.blob.digest not in kept:
                return before
            newest = before.blob.digest
        return None
