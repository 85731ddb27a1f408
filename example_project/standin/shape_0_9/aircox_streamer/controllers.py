"""Streamer, sources and metadata: in 0.9 one module."""

from example_project.standin.playout.metadata import BaseMetadata, Request
from example_project.standin.playout.sources import LiveSource, PlaylistSource, QueueSource, Source
from example_project.standin.playout.streamer import Streamer

__all__ = [
    "BaseMetadata",
    "LiveSource",
    "PlaylistSource",
    "QueueSource",
    "Request",
    "Source",
    "Streamer",
]
