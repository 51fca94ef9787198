"""What is between an agent and its server? A proxy that can be cut without a word, as a network is.

What was connected when it was cut is never heard of again, not even once it is mended: nobody closes anything.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Cable:
    """Forwards connections to a port of this machine, until it is cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._cuts = 0
        threading.Thread(target=self._accept, name="cable", daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def cut(self) -> None:
        """From now on nothing gets through, of what is connected for ever, of what comes new until it is mended."""
        self._cuts += 1
        self._is_cut = True

    _is_cut = False

    def mend(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._ends.append(near)
            if not self._is_cut:
                self._join(near)

    def _join(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:  # nobody there: said as the server's machine would say it
            near.close()
            return
        self._ends.append(far)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._forward, args=(source, sink, self._cuts), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, cuts: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._cuts != cuts:
                    return
                sink.sendall(data)
            if self._cuts == cuts:
                sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def cable(target: int) -> Iterator[Cable]:
    found = Cable(target)
    try:
        yield found
    finally:
        found.close()
