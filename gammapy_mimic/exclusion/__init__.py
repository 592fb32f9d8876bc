"""Sources and stars to leave out."""
