"""``python -m tnfd``."""

from tnfd.cli import main

if __name__ == "__main__":
    main()
