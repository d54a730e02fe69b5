"""`python -m neurosim`: the command without its console script."""

from neurosim.cli.commands import main

main()
