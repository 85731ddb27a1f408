"""A pretend station whose listeners come through the real collecting path."""
