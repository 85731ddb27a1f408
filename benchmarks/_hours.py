"""How a station's day goes."""

from __future__ import annotations

import numpy as np

BY_HOUR = np.array([2, 1, 1, 1, 1, 3, 7, 10, 9, 6, 5, 5, 6, 5, 4, 4, 5, 7, 6, 5, 4, 4, 3, 3], dtype=float)
"""How the tune-ins of a day spread over its hours."""
