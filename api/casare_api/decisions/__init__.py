"""What the system decides, as pure functions on values: the functional core.

Here belong the decisions that duties and the store carry out: what a job asks of a robot (``requirements``), where it
runs (``placement``) and why it waits (``reasons``), when a schedule fires (``schedule``, ``cron``), which phase may
follow which (``lifecycle``). The same input always gives the same answer, in any order of its parts, so that each can
be tested by itself and be shown to a person as a what-if.

Never here: reading rows, writing rows, the current time, randomness. They come in as arguments.
"""
