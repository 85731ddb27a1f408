"""Stand-in for the package `aircox`: the models and public pages that a plug-in meets."""
