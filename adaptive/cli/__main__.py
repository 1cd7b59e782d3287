"""`python -m adaptive.cli`."""

from adaptive.cli.app import main

main()
