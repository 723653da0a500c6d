"""Runs as Python objects: start one, open one, read its rows, its board and its members' weights."""
