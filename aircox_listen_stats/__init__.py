"""Audience figures for radio stations that run aircox."""

__version__ = "0.1.0"
