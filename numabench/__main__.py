"""`python -m numabench` is `numabench`."""

from numabench.cli.app import main

main()
