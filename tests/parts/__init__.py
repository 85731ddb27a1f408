"""Real servers for the tests: private, on loopback, in a folder of their own, ended with the run."""
