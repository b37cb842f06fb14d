"""``python -m quartier``: the command line, also where the package is not installed but only on the path."""

from quartier.cli.main import main

if __name__ == "__main__":
    main()
