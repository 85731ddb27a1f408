"""System checks of the configuration. Ids and hints are public: docs/checks.md."""
