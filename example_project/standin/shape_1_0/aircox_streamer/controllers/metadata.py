"""Metadata of requests, under 1.0's name."""

from example_project.standin.playout.metadata import BaseMetadata, Request

__all__ = ["BaseMetadata", "Request"]
