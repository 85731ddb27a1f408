"""What both shapes of the stand-in's streamer share: Liquidsoap's socket, sources, the watch on them."""
