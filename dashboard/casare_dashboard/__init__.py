"""The dashboard: what a person sees of the fleet in a browser.

Belongs here: pages, what they show of each resource (pure functions in `robot_views`, `job_views`, `event_views`), and
the signed-in session. Everything is read and written through `casare_client`, with the key of whoever signed in.
Never: rules of the fleet, a store of its own, a key outside of the session that it was typed into.
"""
