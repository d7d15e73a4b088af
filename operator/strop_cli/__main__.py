"""`python -m strop_cli`."""

from strop_cli.entry import main

main()
