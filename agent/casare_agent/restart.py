"""Has this agent to restart, and has it done so already?

People write a time into `spec.restartRequestedAt`; it is a word like any other here, compared with the one that was
handled last and never with a clock. The word is on disk before the process ends, so that whatever happens in between,
no agent restarts for it twice in a row; where it can't be written, the agent says so and stays.
"""

from __future__ import annotations

import logging
from pathlib import Path

from casare_agent.files import write_whole

_log = logging.getLogger("casare.agent")
FILE = "restarted-for"
_MOST = 100  # bytes of a time


class Restart:
    """The wish to restart, of a robot with this directory."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / FILE
        self.handled = _read(self._file)
        self._wanted: str | None = None

    def hear(self, wanted: str | None) -> None:
        """What the server says that people want; None where they want nothing, or the server is of an older release."""
        if wanted != self._wanted and self._is_new(wanted):
            _log.info("asked to restart (%s): nothing new is taken until then", wanted)
        self._wanted = wanted

    @property
    def is_wanted(self) -> bool:
        """Whether it has still to be done."""
        return self._is_new(self._wanted)

    def note(self) -> bool:
        """Writes down that it is done now; False where that can't be, and the wish is passed over."""
        assert self._wanted is not None
        self.handled = self._wanted
        try:
            write_whole(self._file, self._wanted.encode())
        except OSError as error:
            _log.warning("not restarted: %s can't be written: %s", self._file, error.strerror or error)
            return False
        return True

    def _is_new(self, wanted: str | None) -> bool:
        return wanted is not None and wanted != self.handled


def _read(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST).decode("ascii", "replace").strip() or None
    except OSError:
        return None
