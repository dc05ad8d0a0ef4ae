"""The command line's way to the house: reads and commands through the database, without an event loop.

Works the same whether a daemon runs or not: a command changes the store in one transaction and leaves a
control row, which a running daemon sees within a second.
"""

from tnfd.control.control import Ambiguous, Control, Dealt, NoSuchJob, Resumed

__all__ = ["Ambiguous", "Control", "Dealt", "NoSuchJob", "Resumed"]
