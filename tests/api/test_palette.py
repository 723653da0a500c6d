"""Colors of methods: contrast, distances under color blindness, and their independence of other methods."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from harness import drawing

# Linear RGB as people see it without one kind of cone: Machado, Oliveira and Fernandes 2009, severity 1.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}
TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(color: str) -> np.ndarray:
    """Return linear RGB of `#rrggbb`."""
    channels = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b* of linear RGB."""
    ratio = TO_XYZ @ rgb / WHITE
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("color", drawing.COLORS)
def test_contrast_with_a_white_page(color: str) -> None:
    """It is at least 3:1, which WCAG 2.2 (1.4.11) demands of graphics."""
    luminance = TO_XYZ[1] @ linear(color)
    assert 1.05 / (luminance + 0.05) >= 3


@pytest.mark.parametrize("sight", SIGHT)
def test_colors_under_color_blindness(sight: str) -> None:
    """Any two are at least 20 apart in L*a*b* (2.3 is just noticeable; Okabe and Ito's own colors are 16 apart)."""
    seen = [lab(np.clip(SIGHT[sight] @ linear(color), 0, 1)) for color in drawing.COLORS]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= 20


def test_style_of_a_method_is_the_same_in_every_process() -> None:
    """It depends on the name alone, not on Python's hash seed."""
    code = "from harness import drawing; print(drawing.method_style('my method'))"
    printed = set()
    for seed in ("1", "2"):
        done = subprocess.run([sys.executable, "-c", code], env={**_environment(), "PYTHONHASHSEED": seed}, capture_output=True)
        printed.add(done.stdout.decode())
    assert printed == {f"{drawing.method_style('my method')}\n"}


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def test_options_keep_the_color() -> None:
    """Methods that differ in options have the color of their plugin."""
    color = drawing.method_style("distilled").color
    for name in ("distilled(beta=0.2)", "distilled, beta = 0.2", "distilled(beta=0.2, fork_epoch=3)", " distilled[1]"):
        assert drawing.method_style(name).color == color


def test_variants_of_a_method_differ() -> None:
    """Most of seven fork epochs have another marker or line."""
    styles = {drawing.method_style(f"constrained(fork_epoch={t})") for t in (1, 5, 10, 20, 40, 60, 80)}
    assert len(styles) >= 5


@pytest.mark.parametrize("name", ["", "(", "\ud800", "日本", "x" * 10_000, "\x00"])
def test_any_name_has_a_style(name: str) -> None:
    """Also one without letters, and one with half a surrogate pair."""
    assert drawing.method_style(name).color in drawing.COLORS
