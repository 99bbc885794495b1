"""The command `python -m slowpoints`."""

from slowpoints._cli import main

if __name__ == "__main__":
    main(prog_name="python -m slowpoints")
