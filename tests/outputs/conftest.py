"""Frames with spots of known places, for what is made of their pixels."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

# (slow, fast) of the spots' maxima.
SPOTS = np.array([[20, 30], [40, 70], [60, 12]])


def _draw_spots(spots=SPOTS, shape=(80, 96), seed=0, level=50.0) -> np.ndarray:
    """A frame of noise with spots of 3 x 3 pixels, int32: 900 above the level."""
    image = np.random.default_rng(seed).poisson(level, shape).astype(np.int32)
    for slow, fast in spots:
        image[slow - 1 : slow + 2, fast - 1 : fast + 2] += 50
        image[slow, fast] += 450
    return image


@pytest.fixture
def draw_spots():
    """The function draw_spots(spots, shape, seed, level) -> image."""
    return _draw_spots


@pytest.fixture
def spots() -> np.ndarray:
    return SPOTS.copy()


@pytest.fixture
def browse_and(tmp_path):
    """The function browse_and(page, script) -> the page in a browser after a script."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium to run the page's script in")

    def browse_and(page: str, script: str) -> str:
        changed = tmp_path / "changed.html"
        text = (tmp_path / page).read_text(encoding="utf-8")
        changed.write_text(f"{text}<script>{script}</script>", encoding="utf-8")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += ["--window-size=1200,800", "--virtual-time-budget=3000"]
        command += [f"--user-data-dir={tmp_path / 'browser'}", str(changed)]
        done = subprocess.run(command, capture_output=True, timeout=120, check=True)
        return done.stdout.decode()

    return browse_and
