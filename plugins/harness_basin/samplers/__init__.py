"""Ensembles and averages of one training: snapshots, fast geometric ensembles, SWA and SWAG."""
