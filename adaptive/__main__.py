"""`python -m adaptive`: the `adaptive` command."""

from adaptive.cli import main

main()
