from __future__ import annotations

import json
import sys

import pytest

pytest.importorskip("lz4")
pytest.importorskip("dectris")

from dials_cnn_screen.studies import benchmark
from dials_cnn_screen.studies.benchmark import Program, measure_program, measure_stages

# Takes a hundredth of a second of CPU time for each image, after some for the start.
WORK = """
import sys, time
n = int(sys.argv[1])
while time.process_time() < 0.2 + 0.01 * n: pass
"""


def test_stages_are_those_of_both_models():
    stages = measure_stages(rounds=2, edge=200)
    assert [stage.name for stage in stages] == [
        "bitshuffle, LZ4: decompress",
        "check the frame",
        "default: prepare",
        "default: classify",
        "ke2018: prepare",
        "ke2018: classify",
    ]
    assert all(0 < s.least <= s.median <= s.most for s in stages)


def test_cost_of_an_image_is_the_slope():
    command = [sys.executable, "-c", WORK]
    program = measure_program("work", command, {10: "10", 60: "60"}, rounds=1)
    assert program.per_image == pytest.approx(10, rel=0.1)
    assert program.start == pytest.approx(0.2, abs=0.05)
    assert 1 < program.memory < 500


def test_a_program_that_fails_is_named():
    with pytest.raises(ValueError, match=r"import sys; sys.exit\('no'\).* failed: no"):
        measure_program(
            "work", [sys.executable, "-c", "import sys; sys.exit('no')"], {1: "1"}, 1
        )


def test_tables_and_json(tmp_path, monkeypatch, capsys):
    programs = [Program("LO19: dials.cnn_screen model=default", 1.5, 8.0, 400)]
    monkeypatch.setattr(benchmark, "measure_programs", lambda *_: programs)
    path = tmp_path / "benchmark.json"
    benchmark.main(["--experiments", "LO19", "--rounds", "1", "--output", str(path)])
    out = capsys.readouterr().out
    assert "| LO19: dials.cnn_screen model=default | 1.50 | 8.0 | 125.0 | 400 |" in out
    content = json.loads(path.read_text())
    assert content["programs"][0]["per_image"] == 8.0
    assert content["machine"]["cores"] >= 1
    assert len(content["stages"]) == 6
