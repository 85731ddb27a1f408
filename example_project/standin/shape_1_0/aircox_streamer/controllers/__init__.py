"""Streamer, sources and metadata; the Monitor is in `controllers.monitor`."""

from aircox_streamer.controllers.metadata import BaseMetadata, Request
from aircox_streamer.controllers.sources import LiveSource, PlaylistSource, QueueSource, Source
from aircox_streamer.controllers.streamer import Streamer

__all__ = [
    "BaseMetadata",
    "LiveSource",
    "PlaylistSource",
    "QueueSource",
    "Request",
    "Source",
    "Streamer",
]
