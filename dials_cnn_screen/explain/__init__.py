"""Why images were classified as they were: pixels, candidates, similar images."""
