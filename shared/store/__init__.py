"""The Redis store of published versions: the only place that knows a key's name or a command."""
