"""Run the same command elsewhere: an emulated guest with as many nodes as asked."""
