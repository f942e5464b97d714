"""The machine: /sys, /proc, libnuma and the kernel's knobs. No other package touches them."""
