"""Reading cnn_screen.json of an earlier run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def read_scores(
    path: str | Path, read: Callable[[dict], T]
) -> tuple[dict, dict[tuple[str, int], T]]:
    """The model of a run, and what read makes of each image, by file and frame.

    read: of an image's entry; may raise ValueError, KeyError or TypeError where it is
    not one. Raises ValueError where the file is not a scores file, or has two images
    of one name.
    """
    text = Path(path).read_bytes()
    try:
        results = json.loads(text)
        model = {"name": results["model"]["name"], "sha256": results["model"]["sha256"]}
        model |= results["model"]
        images = results["images"]
        known = {(image["file"], image["frame"]): read(image) for image in images}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"'{path}' is not a scores file of dials.cnn_screen ({error}); give the "
            "cnn_screen.json of an earlier run"
        ) from error
    if len(known) < len(images):
        raise ValueError(
            f"several images in '{path}' have the same file name; rename the files and "
            "screen them again"
        )
    return model, known
