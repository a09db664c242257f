"""Guidance: Denoisers made of Denoisers.

`ClassifierFree` is what all begin with. `Guided` sets guides round it, `Interval` says when, and everything in
`pairs`, `terms` and `finishes` is one guide, made anew for each picture because some remember its earlier steps.
"""

from .classifier_free import ClassifierFree, Interval
from .guided import Guided

__all__ = ["ClassifierFree", "Guided", "Interval"]
