"""The contract of the fleet: what a resource is, and what follows from one by thinking alone.

Here belong the kinds (``kinds``), the machinery every kind shares (``machinery``: errors, selectors, patches,
names, times, durations, templates, admission) and the pure functions that decide (``decisions``: placement, next
fire, lifecycle). Everything is a function of its arguments.

Never here: input or output of any sort, a clock, asyncio, threads, settings, or an import of another package of
this project. Whoever calls brings the time and the rows.
"""
