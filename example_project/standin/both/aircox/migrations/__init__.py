"""The tables of aircox."""
