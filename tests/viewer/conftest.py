"""A screen without a monitor, and hands on it: Xvfb and xdotool."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

# Without a window manager nobody asks a window to close, and nobody reads what it says.
# It is slow while a file of the name "busy" is there.
RUN = """
import os, signal, sys, time, wx
from pathlib import Path
from dials_cnn_screen.command_line.cnn_annotate import run
from dials_cnn_screen.viewer.panel import AnnotationPanel
from dials_cnn_screen.viewer.stock_viewer import StockViewer

def say():
    window = wx.GetApp().GetTopWindow()
    panel, = [w for w in window.Children if isinstance(w, AnnotationPanel)]
    texts = [w.Label for w in panel.Children if isinstance(w, wx.StaticText)]
    Path("saying").write_text("\\n".join(texts))
    os.replace("saying", "said")

def show(viewer, name, show=StockViewer.show):
    if os.path.exists("busy"):
        time.sleep(2)
    show(viewer, name)

StockViewer.show = show
close = lambda: wx.GetApp().GetTopWindow().Close()
signal.signal(signal.SIGUSR1, lambda *_: wx.CallAfter(close))
signal.signal(signal.SIGHUP, lambda *_: wx.CallAfter(say))
run()
"""

# A window may take that long on a busy machine, in seconds.
PATIENCE = 120


class Desk:
    """A display of its own, and what a person does there."""

    def __init__(self, display: str) -> None:
        self.env = {**os.environ, "DISPLAY": display, "DIALS_NOBANNER": "1"}
        self.window = ""

    def wait_for(self, what: Callable[[], object], seconds: float = PATIENCE) -> object:
        """Wait until what() is true and return it; what is false if it is not to be."""
        end = time.monotonic() + seconds
        while not (found := what()) and time.monotonic() < end:
            time.sleep(0.05)
        return found

    def do(self, *words: object) -> str:
        """Have xdotool do something."""
        done = subprocess.run(
            ["xdotool", *map(str, words)],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    def find(self, title: str) -> str:
        """The visible window with this in its title, once it is there."""

        def search() -> list[str]:
            return self.do("search", "--onlyvisible", "--name", title).split()

        windows = self.wait_for(search)
        assert windows, f"no window '{title}'"
        return windows[-1]

    def close(self, program: subprocess.Popen) -> int:
        """Close a program's window by its frame, as a window manager would."""
        self._signal(program, signal.SIGUSR1)
        return program.wait(PATIENCE)

    def read(self, program: subprocess.Popen, folder: Path) -> str:
        """The texts of the panel of a program that runs in a folder."""
        said = folder / "said"
        said.unlink(missing_ok=True)
        for _ in range(PATIENCE // 5):  # the panel may not be there yet
            self._signal(program, signal.SIGHUP)
            if self.wait_for(said.exists, 5):
                return said.read_text()
        pytest.fail("the program does not answer")

    def _signal(self, program: subprocess.Popen, number: int) -> None:
        program.send_signal(number)
        # Python looks for signals when it has something to do.
        self.do("mousemove", 700, 500, "mousemove", 710, 510)

    def focus(self, title: str) -> str:
        self.window = self.find(title)
        self.do("windowfocus", "--sync", self.window)
        return self.window

    def press(self, key: str, comes_true: Callable[[], object]) -> None:
        """Press a key until something is so; it may come before the image shows."""
        self._insist(["key", key], comes_true)

    def click(self, x: int, y: int, comes_true: Callable[[], object]) -> None:
        """Click there until something is so."""
        self._insist(["mousemove", x, y, "click", 1], comes_true)

    def _insist(self, words: list, comes_true: Callable[[], object]) -> None:
        for seconds in (3, 6, 12, 24, 48):
            # A window that opens late takes the focus.
            self.do("windowfocus", "--sync", self.window, *words)
            if self.wait_for(comes_true, seconds):
                return
        pytest.fail(f"{words} did not do what it should")


@pytest.fixture(scope="session")
def desk() -> Iterator[Desk]:
    pytest.importorskip("wx")
    for program in ("Xvfb", "xdotool"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here to test windows with")
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-noreset", "-screen", "0", "1920x1200x24"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as answer:
        number = answer.readline().strip()
    if not number:
        pytest.skip("Xvfb does not start here")
    yield Desk(f":{number}")
    server.terminate()
    server.wait()


@pytest.fixture
def start(desk, tmp_path) -> Iterator[Callable[..., subprocess.Popen]]:
    """The function start(module or program, *arguments): a program on the desk."""
    started = []

    def run(*command: object) -> subprocess.Popen:
        log = open(tmp_path / f"program_{len(started)}.txt", "w")  # noqa: SIM115
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=tmp_path,
            env=desk.env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        started.append((process, log))
        return process

    yield run
    for process, log in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        log.close()


@pytest.fixture
def annotate(start) -> Callable[..., subprocess.Popen]:
    """The function annotate(*arguments): dials.cnn_annotate on the desk."""
    return lambda *args: start(sys.executable, "-c", RUN, *args)


class ManyShots(NamedTuple):
    """Frames of 120 x 120 pixels, and labels of all but the last four.

    Attributes:
        path: Their file, many.h5.
        labels: Text of an annotation file.
        has_spots: Whether a frame has twelve spots or none.
    """

    path: Path
    labels: str
    has_spots: list[bool]

    @property
    def n(self) -> int:
        """Number of frames."""
        return len(self.has_spots)


@pytest.fixture
def many_shots(tmp_path, write_cxidb76, installed_formats) -> ManyShots:
    has_spots = [i % 2 == 0 for i in range(24)]
    images = np.random.default_rng(0).poisson(40, (24, 120, 120))
    for shift in range(-1, 2):  # spots of 3 x 3 pixels
        images[has_spots, 20 + shift : 100 : 20, 19:70:20] += 300
        images[has_spots, 20 + shift : 100 : 20, 20:70:20] += 600
        images[has_spots, 20 + shift : 100 : 20, 21:70:20] += 300
    path = write_cxidb76(
        tmp_path / "many.h5",
        images.astype(np.int32),
        kind="Rayonix",
        BEAM_CENTER_X=60 * 0.0886,
        BEAM_CENTER_Y=60 * 0.0886,
    )
    lines = [
        f"many.h5 [{i + 1}] {'HIT' if spots else 'MISS'}\n"
        for i, spots in enumerate(has_spots[:20])
    ]
    return ManyShots(path, "".join(lines), has_spots)


@pytest.fixture
def shots(tmp_path, write_cxidb76, installed_formats) -> Path:
    """Six frames of 120 x 120 pixels, with 0, 2, ... 10 spots."""
    images = np.random.default_rng(0).poisson(40, (6, 120, 120))
    for n, image in enumerate(images):
        image[20:100:20, 20:70:20].flat[: 2 * n] = 900
    return write_cxidb76(
        tmp_path / "shots.h5",
        images.astype(np.int32),
        kind="Rayonix",
        BEAM_CENTER_X=60 * 0.0886,
        BEAM_CENTER_Y=60 * 0.0886,
    )
