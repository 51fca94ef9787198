"""What ends a command early? One line for a person, and the exit code a script sees."""

from __future__ import annotations


class Failure(Exception):
    """Something is wrong; exit code 1."""

    exit_code = 1


class Misuse(Failure):
    """The command was typed wrongly; exit code 2."""

    exit_code = 2
