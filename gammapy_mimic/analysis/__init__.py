"""Mimics from one configuration, beside an analysis of Gammapy."""
