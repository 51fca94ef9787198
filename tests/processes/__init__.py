"""Real processes: the supervisor, `casare up`, and ./dev."""
