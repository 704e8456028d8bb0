"""`python -m tessera` is the same as `tessera`."""

from tessera.cli.main import main

main()
