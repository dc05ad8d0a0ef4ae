"""``tnfd doctor``: checks what usually goes wrong, says why it matters and which command mends it.

Changes nothing but for a hidden file that it writes and removes where outputs go. Never sends audio; asks a
server for its list of models, and only one that the configuration names.
"""

from tnfd.doctor.examine import examine
from tnfd.doctor.finding import Finding, Mark

__all__ = ["Finding", "Mark", "examine"]
