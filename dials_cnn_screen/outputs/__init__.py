"""What a run leaves behind: experiment lists, reports, pictures."""
