"""`python -m syncbridge`: the command line."""

from syncbridge.commands.app import main

main()
