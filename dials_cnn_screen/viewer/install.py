"""Add the annotation tool to the Actions menu of the stock dials.image_viewer.

    python -m dials_cnn_screen.viewer.install [--remove]

The viewer finds plugins by their file names in a folder of DIALS itself. One file is
copied there; no other file is touched. dials.cnn_annotate does not need this.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from dials_cnn_screen.util.files import replacing

PLUGIN = Path(__file__).with_name("cnn_annotate_frame_plugin.py")


def plugin_folder() -> Path:
    """The folder in which this interpreter's dials.image_viewer looks for plugins.

    Raises:
        ValueError: There is no DIALS, or its viewer has no such folder.
    """
    # Found without import, which would need wx and a display.
    spec = importlib.util.find_spec("dials")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"{sys.executable} has no DIALS; use the interpreter of DIALS")
    folder = "util/image_viewer/slip_viewer"
    for location in spec.submodule_search_locations:
        if (Path(location) / folder).is_dir():
            return Path(location) / folder
    raise ValueError(f"this DIALS has no folder dials/{folder} for plugins")


def install(folder: Path) -> Path:
    """Copy the plugin to this folder, in place of an older version; returns its path.

    Raises:
        OSError: The folder can't be written.
    """
    target = folder / PLUGIN.name
    text = PLUGIN.read_text(encoding="utf-8")
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        with replacing(target) as unfinished:
            Path(unfinished).write_text(text, encoding="utf-8")
    return target


def remove(folder: Path) -> Path:
    """Delete the plugin from this folder, if it is there; returns its path.

    Raises:
        OSError: The folder can't be written.
    """
    target = folder / PLUGIN.name
    target.unlink(missing_ok=True)
    return target


def main(args: list[str] | None = None) -> None:
    """Install or remove the plugin and print its path, or why that failed."""
    parser = argparse.ArgumentParser(
        prog="python -m dials_cnn_screen.viewer.install",
        description="Add the Hit / Maybe / Miss tool to dials.image_viewer's menu.",
    )
    parser.add_argument("--remove", action="store_true", help="remove it again")
    options = parser.parse_args(args)
    try:
        target = (remove if options.remove else install)(plugin_folder())
    except (ValueError, OSError) as error:
        sys.exit(f"{error}; dials.cnn_annotate works without the menu entry too")
    print(f"{'Removed' if options.remove else 'Installed'} {target}")


if __name__ == "__main__":
    main()
