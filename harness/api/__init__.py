"""What plugin authors use: options, interfaces, recipes, handles, ensembles, figures. Imports no torch."""
