"""Whether every processor computes the same: released models and their preprocessing on emulated Arm and x86."""
