"""From files to frames: stills, their panels on one array, masks, the beam centre."""
