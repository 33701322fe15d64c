"""What the tests of dials.cnn_live share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def quick(monkeypatch):
    """Look at files ten times a second, and take them for finished after one."""
    files = pytest.importorskip("dials_cnn_screen.live.files")
    monkeypatch.setattr(files, "POLL", 0.1)
    monkeypatch.setattr(files, "SETTLED", 1.0)


@pytest.fixture
def live_run(level_model, in_tmp_path, quick):
    """The function live_run(*args) -> cnn_screen.json's images, by path and number."""
    pytest.importorskip("dials")
    from dials_cnn_screen.command_line.cnn_live import run

    def live_run(*args):
        run([*args, f"model={level_model}", "mp.nproc=2", "output.every=0.5"])
        return read_scores()

    return live_run


def read_scores() -> dict[tuple[str, int], dict]:
    images = json.loads(Path("cnn_screen.json").read_text())["images"]
    return {(Path(i["path"]).name, i["frame"]): i for i in images}
