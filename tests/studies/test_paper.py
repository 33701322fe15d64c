from __future__ import annotations

import pytest

pytest.importorskip("dials")
pytest.importorskip("sklearn")

from dials_cnn_screen.studies import networks
from dials_cnn_screen.studies import paper as module


@pytest.fixture(autouse=True)
def usual_memory(monkeypatch):
    monkeypatch.setattr(module, "keep_freed_memory", lambda: None)


def test_all_is_made_and_found_again(noise, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "Simulated", noise)
    folder = tmp_path / "paper"
    sizes = ["--shots", "20", "--epochs", "1", "--batches", "1", "--nproc", "1"]
    arguments = [*sizes, "--folder", str(folder)]
    module.main(arguments)
    page = (folder / "paper.md").read_text()
    assert "Of 20 frames of noise;" in page
    printed = capsys.readouterr().out
    names = [f"table_{n}" for n in range(3, 9)]
    for name in names:
        table = (folder / f"{name}.md").read_text()
        assert table.split("\n\n")[1] in page
        assert table.split("\n\n")[1] in printed
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert pictures == ["figure_11.png", "figure_8.png", "figure_9.png"]
    assert all(f"]({picture})" in page for picture in pictures)
    # 5 experiments, 3 groups, 6 without LCN; of Table 7's sizes none is below 44.
    assert len(list((folder / "networks-1x1").glob("*.safetensors"))) == 14
    monkeypatch.setattr(networks, "train_one", None)
    module.main(arguments)
    assert (folder / "paper.md").read_text() == page


def test_other_shots_do_not_mix_with_what_is_there(noise, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TABLES", ())
    monkeypatch.setattr(module, "FIGURES", ())
    module.make_paper(noise(20), tmp_path, 1, 1, 1)
    again = noise(20)
    module.make_paper(again, tmp_path, 2, 1, 1)
    assert again.prepared == []
    with pytest.raises(ValueError, match=r"other shots: shots: 20 frames of noise, no"):
        module.make_paper(noise(30), tmp_path, 1, 1, 1)


@pytest.mark.parametrize("words", ["--shots 0", "--epochs -1", "--batches x"])
def test_sizes_that_are_none(words, tmp_path, capsys):
    with pytest.raises(SystemExit):
        module.main([*words.split(), "--folder", str(tmp_path)])
    assert "is not 1 or more" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="Not a directory"):
        module.main(["--folder", str(tmp_path / "file" / "paper")])


def test_a_missing_deposit_is_one_line(tmp_path):
    folder = str(tmp_path / "paper")
    with pytest.raises(SystemExit, match=r"there is no file '.*r0027_2000.h5'"):
        module.main(["--cxidb76", str(tmp_path), "--folder", folder])
