"""An example station: a Django project that carries a stand-in for aircox."""
