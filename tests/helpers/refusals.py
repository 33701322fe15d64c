"""What dials.cnn_evaluate tells a user whose input it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest


def refused(*args: str) -> str:
    """What the user is told; no result is written."""
    # Not above: without DIALS the tests that need it are skipped.
    from dials.util import Sorry

    from dials_cnn_screen.command_line.cnn_evaluate import run

    with pytest.raises(Sorry) as told:
        run(list(args))
    assert not Path("cnn_evaluate.json").exists()
    assert not Path("cnn_evaluate.html").exists()
    message = str(told.value)
    assert "\n" not in message
    return message
