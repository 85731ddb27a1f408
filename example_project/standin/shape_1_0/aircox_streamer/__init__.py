"""Stand-in for the package `aircox_streamer`, in the shape of 1.0."""
