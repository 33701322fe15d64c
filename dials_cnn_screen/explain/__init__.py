"""Why images were judged as they were: pixels, candidates, images that are alike."""
