"""Files, processes, threads, programs and intervals: what all parts use."""
