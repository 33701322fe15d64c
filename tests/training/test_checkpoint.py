from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from dials_cnn_screen.training.checkpoint import Checkpoint, digest

RUN = {"training.epochs": 30, "labels": "a" * 64, "start_from": None}


def test_what_is_saved_is_loaded(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c", RUN)
    assert checkpoint.load() is None
    checkpoint.save({"weights": torch.arange(3.0), "history": [{"epoch": 1}]})
    state = Checkpoint(tmp_path / "c", dict(RUN)).load()
    assert state["weights"].tolist() == [0, 1, 2]
    assert state["history"] == [{"epoch": 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_of_another_run(tmp_path):
    Checkpoint(tmp_path / "c", RUN).save({})
    other = {"training.epochs": 40, "labels": "b" * 64, "device": "cpu"}
    with pytest.raises(ValueError, match="of another run") as problem:
        Checkpoint(tmp_path / "c", other).load()
    for text in (
        "training.epochs (30, now 40)",
        "labels (aaaaaaaaaaaa..., now bbbbbbbbbbbb...)",
        "device (None, now cpu)",
        "training.resume=False",
    ):
        assert text in str(problem.value)
    assert "start_from" not in str(problem.value)


def make_code(path):
    class Code:
        def __reduce__(self):
            return (open, (str(path), "w"))

    return Code()


def test_damaged(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c", RUN)
    checkpoint.save({"weights": torch.arange(3.0)})
    whole = checkpoint.path.read_bytes()
    code = pickle.dumps(make_code(tmp_path / "run"), 2)
    for content in (b"", whole[:200], b"nonsense", code, pickle.dumps([1, 2], 2)):
        checkpoint.path.write_bytes(content)
        with pytest.raises(ValueError, match="c' is damaged; remove it"):
            checkpoint.load()
    torch.save([1], checkpoint.path)
    with pytest.raises(ValueError, match="c' is damaged; remove it"):
        checkpoint.load()
    assert not (tmp_path / "run").exists()


def test_digest_tells_arrays_apart():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert digest([a]) == digest([a.copy(order="F")])
    others = ([a + 1], [a.T], [a.ravel()], [a.astype(np.float64)], [a, a], [a[::-1]])
    assert len({digest(arrays) for arrays in ([a], *others)}) == 7
