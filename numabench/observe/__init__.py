"""What is attached to a trial in a pass of its own: perf's recordings and the kernel's counts."""
