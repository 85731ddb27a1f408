"""The streamer, under 1.0's name."""

from example_project.standin.playout.streamer import Streamer

__all__ = ["Streamer"]
