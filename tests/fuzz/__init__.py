"""Every file that the product reads, damaged in many ways: `python -m fuzz`, see `fuzz.runner`."""
