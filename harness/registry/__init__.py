"""The hooks, the discovery of installed plugins, and the catalogue of what they register."""
