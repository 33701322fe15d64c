from __future__ import annotations

import re
import shlex

import pytest

pytest.importorskip("dials")

from dials_cnn_screen.util.provenance import Provenance, find_versions, format_now


def test_the_command_can_be_given_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = ["run 1.h5", "decision.threshold=0.3", "x=$HOME's"]
    found = Provenance.of("dials.cnn_screen", args, "a = 1")
    assert shlex.split(found.command) == ["dials.cnn_screen", *args]
    assert (found.folder, found.parameters) == (str(tmp_path), "a = 1")


def test_the_time_is_local():
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+", format_now())


def test_versions():
    assert list(find_versions()) == [
        *("dials_cnn_screen", "DIALS", "Python", "numpy", "torch")
    ]
