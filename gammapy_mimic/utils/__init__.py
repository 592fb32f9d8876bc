"""Coordinates, files, processes and random numbers."""
