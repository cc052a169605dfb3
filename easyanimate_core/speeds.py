"""How much of a run's work is left out: the limit and the recommendations (docs/speed.md)."""

from __future__ import annotations

#: The largest share of steps that a step cache leaves out; beyond it, fewer steps are better.
LARGEST_SHARE = 0.7
#: Recommended shares by name.
SPEEDS = {"careful": 0.5, "fast": 0.65}
