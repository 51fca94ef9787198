"""How do tests run `casare ...`? In their own process, and they see what it prints and its exit code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from casare_cli.main import main


class Run:
    """A command that ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Casare = Callable[..., Run]


def ran(capsys: pytest.CaptureFixture[str], *words: str) -> Run:
    """A command, once it has ended."""
    capsys.readouterr()
    code = main(list(words))
    printed = capsys.readouterr()
    return Run(code, printed.out, printed.err)
