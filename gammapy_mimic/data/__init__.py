"""Observations and datastores: read, checked and written."""
