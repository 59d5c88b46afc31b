"""Comparison of processors: released models and their preprocessing on emulated Arm and x86."""
