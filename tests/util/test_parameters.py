from __future__ import annotations

from dataclasses import dataclass

import pytest

from dials_cnn_screen.util.parameters import read_parameters

phil = pytest.importorskip("libtbx.phil")


@dataclass(frozen=True)
class Inner:
    size: int
    method: str = "usual"


@dataclass(frozen=True)
class Outer:
    name: str | None
    inner: Inner


def extract(text):
    scope = phil.parse(
        "name = None\n.type = str\ninner {\nsize = 3\n.type = int\n}\n"
        "other = 5\n.type = int\n"
    )
    return scope.fetch(source=phil.parse(text)).extract()


def test_scopes_become_dataclasses():
    read = read_parameters(Outer, extract("name = x\ninner.size = 7"))
    assert read == Outer("x", Inner(7))


def test_what_is_missing_has_its_default():
    assert read_parameters(Outer, extract("")).inner.method == "usual"


def test_a_parameter_that_is_missing_without_a_default_is_a_fault():
    @dataclass(frozen=True)
    class Wrong:
        nowhere: int

    with pytest.raises(AttributeError, match="nowhere"):
        read_parameters(Wrong, extract(""))
