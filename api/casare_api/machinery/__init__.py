"""What all kinds share: the rules of the wire, apart from any one kind.

Here belong the errors as they travel (``errors``), the words of the wire and their values (``times``, ``durations``,
``names``, ``templates``), what selects objects (``selectors``), what changes them (``patches``, ``strategic``), what
lets them in (``admission``, ``duplicates``), whose their fields are (``ownership`` and what it stands on: ``managers``,
``fieldsets``, ``structure``, ``merging``, ``ownable``, ``conflicts``, ``lastapplied``); how they are shown
and described (``schema``, ``openapi``, ``discovery``, ``tables``), and how Go's clients send them (``protobuf``).

Never here: a field of a particular kind, a policy (see ``decisions``), or anything that reads a clock, a file, a
socket or a database.
"""
