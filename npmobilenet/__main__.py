"""`python -m npmobilenet`, and the `npmobilenet` program."""

from npmobilenet.cli.main import program

if __name__ == "__main__":
    program()
