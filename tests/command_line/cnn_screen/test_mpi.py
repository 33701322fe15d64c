from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("dials")

from dials.util import Sorry

from dials_cnn_screen.command_line.cnn_screen import run
from dials_cnn_screen.util.json_lines import read_json_lines

pytestmark = pytest.mark.usefixtures("installed_formats", "in_tmp_path")

ONE = "mp.nproc=1"
MPI = "mp.method=mpi"
CODE = "from dials_cnn_screen.command_line.cnn_screen import run; run()"
# Runs on a rank before the program; the rank is known.
ON_RANK = """
import os, signal
from mpi4py import MPI
rank = MPI.COMM_WORLD.rank
"""


@pytest.fixture
def files(write_levels, levels) -> list[str]:
    """Three files of 40 images in all."""
    write_levels("a.h5", levels)
    write_levels("b.h5", range(60, 260, 8))
    write_levels("c.h5", [50] * 8)
    return ["a.h5", "b.h5", "c.h5"]


def assert_same(one: dict, two: dict) -> None:
    # Torch may sum in another order in a process that has loaded other libraries.
    for before, after in zip(one["images"], two["images"], strict=True):
        assert after.pop("p_keep") == pytest.approx(before.pop("p_keep"), abs=1e-6)
    assert one == two


@pytest.mark.parametrize("n", [1, 2, 4])
def test_ranks_give_the_same(files, model, mpirun, results, n):
    run([*files, model, ONE])
    one, hits = results(), Path("hits.expt").read_bytes()
    ranks = mpirun(n, CODE, *files, model, MPI)
    assert ranks.returncode == 0, ranks.stderr
    assert ranks.stdout.count("Saved the scores") == 1
    assert ranks.stdout.count(f"{n} MPI ranks") == 1
    assert_same(one, results())
    assert Path("hits.expt").read_bytes() == hits
    lines = read_json_lines("cnn_screen.jsonl").lines[1:]
    assert sorted(line["index"] for line in lines) == list(range(40))


def test_resumed(files, model, mpirun, results):
    run([*files, model, ONE])
    one = results()
    lines = Path("cnn_screen.jsonl").read_text().splitlines(keepends=True)
    Path("cnn_screen.jsonl").write_text("".join(lines[:12]))
    ranks = mpirun(2, CODE, *files, model, MPI, "resume=True")
    assert ranks.returncode == 0, ranks.stderr
    assert "has 10 of 40 images; resuming" in ranks.stdout
    assert_same(one, results())


KILLED = f"""{ON_RANK}
import time
from dials_cnn_screen.screening import ranks
screen_still, n = ranks.screen_still, [0]
def dies(*args):
    n[0] += 1
    if rank == 1 and n[0] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(rank == 0)  # so that there is something left for rank 1
    return screen_still(*args)
ranks.screen_still = dies
{CODE}
"""


def test_a_rank_that_is_killed(files, model, mpirun, results):
    run([*files, model, ONE])
    one = results()
    ranks = mpirun(2, KILLED, *files, model, MPI)
    assert ranks.returncode
    done = {line.get("index") for line in read_json_lines("cnn_screen.jsonl").lines}
    assert 0 < len(done - {None}) < 40
    run([*files, model, ONE, "resume=True"])
    assert_same(one, results())


FAILS = f"""{ON_RANK}
from dials_cnn_screen.screening import ranks
make_screener = ranks.make_screener
def fails(*args):
    if rank == 1:
        raise ValueError("no model on this machine")
    return make_screener(*args)
ranks.make_screener = fails
{CODE}
"""


def test_a_rank_that_fails_ends_all(files, model, mpirun):
    ranks = mpirun(2, FAILS, *files, model, MPI)
    assert ranks.returncode
    assert "no model on this machine" in ranks.stderr


# As with psana2, where ranks 0 and 1 see no events.
BLIND = f"""{ON_RANK}
from dxtbx.model import ExperimentList
from dials_cnn_screen.command_line import cnn_screen
from dials_cnn_screen.screening import ranks
parse = cnn_screen.parse_images
def blind(*args, **kwargs):
    parsed = parse(*args, **kwargs)
    return parsed if rank > 1 else parsed._replace(experiments=ExperimentList())
def sees(*args):
    assert rank > 1, "a rank that can read no images"
    return screen_still(*args)
cnn_screen.parse_images = blind
screen_still, ranks.screen_still = ranks.screen_still, sees
cnn_screen.run()
"""


def test_ranks_without_images(files, model, mpirun, results):
    run([*files, model, ONE])
    one = results()
    ranks = mpirun(4, BLIND, *files, model, MPI, "html=None")
    assert ranks.returncode == 0, ranks.stderr
    assert_same(one, results())


OTHER = f"""{ON_RANK}
import sys
if rank == 1:
    sys.argv.remove("b.h5")
{CODE}
"""


def test_ranks_with_other_images(files, model, mpirun):
    ranks = mpirun(2, OTHER, *files, model, MPI)
    assert ranks.returncode
    assert "ranks do not find the same images" in ranks.stderr


def test_without_mpi4py(images, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(Sorry, match="needs mpi4py"):
        run([images, model, MPI])
