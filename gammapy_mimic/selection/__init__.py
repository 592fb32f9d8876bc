"""Which OFF observation may stand in for which target."""
