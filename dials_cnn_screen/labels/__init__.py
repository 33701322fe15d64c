"""Hit, Maybe and Miss; names of images; annotation files, spot counts, splits."""
