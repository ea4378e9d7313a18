"""`python -m npmobilenet`, the same as the `npmobilenet` command."""

from npmobilenet.cli import main

main()
