"""The options that several commands share, worded once."""

from __future__ import annotations

from typing import Annotated

import typer

Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", metavar="NAME", help="The namespace; else the context's, else default."),
]
Labels = Annotated[
    str, typer.Option("--selector", "-l", metavar="LABELS", help="Only those with these labels: site=berlin,floor!=2.")
]
Files = Annotated[
    list[str] | None,
    typer.Option(
        "--filename", "-f", metavar="FILE|DIR|-", help="A manifest, a folder of them, or - for standard input."
    ),
]
