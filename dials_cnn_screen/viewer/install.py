"""Put the annotation tool into the Actions menu of the stock dials.image_viewer.

    python -m dials_cnn_screen.viewer.install [--remove]

The viewer finds tools by the names of files in a folder of DIALS's own. One such file
goes there, and none that is there is touched. dials.cnn_annotate needs none of this.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from dials_cnn_screen.util.files import replacing

PLUGIN = Path(__file__).with_name("cnn_annotate_frame_plugin.py")


def plugin_folder() -> Path:
    """Where dials.image_viewer of this interpreter looks for tools.

    Raises ValueError where there is no DIALS.
    """
    # Found, not imported: that would want wx, and a display for it.
    spec = importlib.util.find_spec("dials")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{sys.executable} has no DIALS; use the one that runs it")
    folder = "util/image_viewer/slip_viewer"
    for location in spec.submodule_search_locations:
        if (Path(location) / folder).is_dir():
            return Path(location) / folder
    raise ValueError(f"this DIALS has no dials/{folder}, so its viewer has no tools")


def install(folder: Path) -> Path:
    """Put the tool into this folder, in place of an older one; returns its file.

    Raises OSError where the folder can't be written.
    """
    target = folder / PLUGIN.name
    text = PLUGIN.read_text(encoding="utf-8")
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        with replacing(target) as unfinished:
            Path(unfinished).write_text(text, encoding="utf-8")
    return target


def remove(folder: Path) -> Path:
    """Take the tool away, if it is there; returns its file. Raises as install does."""
    target = folder / PLUGIN.name
    target.unlink(missing_ok=True)
    return target


def main(args: list[str] | None = None) -> None:
    """Do so, and say what was done, or in one line why not."""
    parser = argparse.ArgumentParser(
        prog="python -m dials_cnn_screen.viewer.install",
        description="Put the Hit / Maybe / Miss tool into dials.image_viewer's menu.",
    )
    parser.add_argument("--remove", action="store_true", help="take it away again")
    options = parser.parse_args(args)
    try:
        target = (remove if options.remove else install)(plugin_folder())
    except (ValueError, OSError) as problem:
        sys.exit(
            f"{problem}; dials.cnn_annotate works all the same, without the menu entry"
        )
    print(f"{'Removed' if options.remove else 'Installed'} {target}")


if __name__ == "__main__":
    main()
