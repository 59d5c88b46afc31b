"""Detectors: `table` lists the kinds of detector, `open` opens one, `base` says what each of them does."""
