"""Labelling stills by eye in dials.image_viewer."""
