"""The crowd: what kleaktrace says of ordinary modules that come and go."""
