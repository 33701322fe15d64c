from __future__ import annotations

import json
import os

import pytest

from dials_cnn_screen.util.json_lines import JsonLinesFile, read_json_lines


def test_lines_come_back(tmp_path):
    path = tmp_path / "a.jsonl"
    with JsonLinesFile(path) as file:
        file.append({"a": 1})
        # Whoever reads meanwhile has it.
        assert read_json_lines(path).lines == [{"a": 1}]
        file.append({"b": "é\n"})
    content = read_json_lines(path)
    assert content.lines == [{"a": 1}, {"b": "é\n"}]
    assert (content.n_broken, content.n_bytes) == (0, path.stat().st_size)


def test_every_torn_end_is_left_out_and_cut_off(tmp_path):
    whole = b'{"a": 1}\n{"b": 2}\n'
    for end in range(len(whole) + 1):
        path = tmp_path / "a.jsonl"
        path.write_bytes(whole[:end])
        content = read_json_lines(path)
        assert len(content.lines) == whole[:end].count(b"\n")
        with JsonLinesFile(path) as file:
            file.cut(content.n_bytes)
            file.append({"c": 3})
        assert [*read_json_lines(path).lines][-1] == {"c": 3}
        assert read_json_lines(path).n_broken == 0


@pytest.mark.parametrize("line", [b"\x00\x00\x00", b"[1]", b"{", b"7", b"\xff"])
def test_a_line_that_is_no_object(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"b": 2}\n')
    content = read_json_lines(path)
    assert (content.lines, content.n_broken) == ([{"a": 1}, {"b": 2}], 1)


def test_two_writers(tmp_path):
    with JsonLinesFile(tmp_path / "a") as first, JsonLinesFile(tmp_path / "a") as other:
        first.lock()
        with pytest.raises(BlockingIOError):
            other.lock()
        first.close()
        other.lock()


def test_standard_output(tmp_path, capfd):
    with JsonLinesFile("-") as file:
        file.append({"a": 1})
    os.write(1, b"still open\n")
    assert capfd.readouterr().out == json.dumps({"a": 1}) + "\nstill open\n"
