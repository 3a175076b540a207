"""`python -m race_watch` is the command line."""

from race_watch.cli import main

if __name__ == "__main__":
    main(prog_name="race-watch")
