"""`python -m tamis`: the command line without the console script."""

from tamis.cli import main

if __name__ == "__main__":
    main()
