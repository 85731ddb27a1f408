"""Stand-in for the package `aircox_streamer`, in the shape of 0.9."""
