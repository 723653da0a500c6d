"""The hooks, the installed plugins, and the names they register."""
