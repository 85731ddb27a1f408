"""Sources, under 1.0's name."""

from example_project.standin.playout.sources import LiveSource, PlaylistSource, QueueSource, Source

__all__ = ["LiveSource", "PlaylistSource", "QueueSource", "Source"]
