"""What does a table of transitions look like? Text for documents, made of the table, so that neither goes without the
other."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def state_diagram(transitions: Mapping[str, Collection[str]], first: str) -> str:
    """The transitions as a Mermaid state diagram, in the table's order; `first` is where everything begins.

    Phases that lead nowhere lead to the end. Lines end with a newline.
    """
    lines = ["stateDiagram-v2", f"    [*] --> {first}"]
    for phase, following in transitions.items():
        lines += [f"    {phase} --> {each}" for each in transitions if each in following]
        lines += [] if following else [f"    {phase} --> [*]"]
    return "".join(f"{line}\n" for line in lines)
