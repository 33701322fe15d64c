"""The study of powder rings on simulated shots."""

from __future__ import annotations

import sys

from dials_cnn_screen.studies import rings


def test_rates_are_printed(monkeypatch, capsys):
    found = iter(
        [
            rings.Found(True, 20, 2, 0),
            rings.Found(False, 0, 0, 1),
            rings.Found(True, 0, 0, 0),
            rings.Found(False, 0, 0, 0),
        ]
    )
    monkeypatch.setattr(rings, "map_shots", lambda work, jobs, nproc: map(work, jobs))
    monkeypatch.setattr(rings, "examine", lambda job: next(found))
    monkeypatch.setattr(sys, "argv", ["rings", "--shots", "4"])
    rings.main()
    lines = capsys.readouterr().out.splitlines()
    assert "with powder on which a ring is found: 1 of 2, 50.0" in lines[0]
    assert "ten visible grains or more, the same: 1 of 1, 100.0" in lines[1]
    assert "where there is none: 1 of 4, 25.0" in lines[2]
    assert "are there: 2 of 3, 66.7" in lines[3]
