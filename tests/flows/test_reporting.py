"""Several transfers of one act are told as one that only grows."""

from __future__ import annotations

from crikpy.flows.reporting import Silent, Transfers
from crikpy.model.streams import TransferProgress


class Kept(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, TransferProgress]] = []

    def transfer(self, direction: str, progress: TransferProgress) -> None:
        self.told.append((direction, progress))


def test_a_transfer_goes_on_where_the_last_one_ended() -> None:
    kept = Kept()
    transfers = Transfers(kept, "upload", 100)
    first = transfers.begin()
    first(TransferProgress(plain_bytes=10, wire_bytes=1))
    first(TransferProgress(plain_bytes=40, wire_bytes=4, total_bytes=40))
    second = transfers.begin()
    second(TransferProgress(plain_bytes=60, wire_bytes=3))
    assert [(one.plain_bytes, one.wire_bytes, one.total_bytes) for _, one in kept.told] == [
        (10, 1, 100),
        (40, 4, 100),
        (100, 7, 100),
    ]
    assert {direction for direction, _ in kept.told} == {"upload"}
