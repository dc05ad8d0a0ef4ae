"""``python -m tnfd``, and where the command ``tnfd`` begins. Owns Ctrl-C until a command knows better.

Importing this changes how the process takes Ctrl-C, so nothing else imports it.
"""

from __future__ import annotations

import os
import signal


def _leave(*_: object) -> None:
    """End at once. KeyboardInterrupt would end up as a traceback out of whatever is being imported."""
    os.write(2, b"\nInterrupted.\n")
    os._exit(130)


# Here and not in main: the imports below it take most of the time in which nobody else listens.
signal.signal(signal.SIGINT, _leave)


def main() -> None:
    """Run the command line."""
    from tnfd.cli import main as run

    run()


if __name__ == "__main__":
    main()
