"""Moments of a training's weights that are collected while it runs, as a value. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from harness.api.options import Options


class Moments(Options):
    """What a training collects about its own weights at the end of each epoch from `first` on, without storing each of them.

    It keeps the mean and the mean of the squares, in float64, and the last `columns` deviations of the weights from the mean so
    far, as SWAG does (Maddox et al. 2019, section 3). It is part of the trajectory's key.
    """

    first: int = Field(ge=1, description="the epoch, counted from initialization, at whose end collecting begins")
    columns: int = Field(0, ge=0, le=1000, description="the number of deviations that are kept, the last ones")
