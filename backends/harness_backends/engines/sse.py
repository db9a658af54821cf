"""Server-sent events, as far as streamed completions use them."""

from __future__ import annotations


class SseParser:
    """Splits a byte stream into the data of its events, whatever the network's cuts."""

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, received: bytes) -> list[bytes]:
        """Return the data of every event that is complete now.

        Args:
            received: the next bytes of the body. Lines end with LF or CR LF; fields other than `data` and
                comments are skipped, several `data` lines of one event are joined by LF.
        """
        lines = (self._rest + received).split(b"\n")
        self._rest = lines.pop()
        events: list[bytes] = []
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]  # noqa: PLW2901
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line and self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
        return events
