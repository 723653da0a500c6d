"""The interfaces for plugin authors: options, plugin kinds, recipes, handles, ensembles, figures. Imports no torch."""
