"""Writes packaging/systemd and packaging/launchd: what the code renders, for the usual place of the program.

python -m docs.make_units
"""

from __future__ import annotations

from pathlib import Path

from tnfd.service.launchd import property_list
from tnfd.service.systemd import system_unit, user_unit
from tnfd.service.target import LABEL, Owner, Target

PACKAGING = Path(__file__).resolve().parents[1] / "packaging"
# Wherever pipx, uv or a distribution has put it.
_USER = "/usr/bin/env PATH=%h/.local/bin:/usr/local/bin:/usr/bin:/bin tnfd"
_SYSTEM = "/usr/bin/env PATH=/opt/tnfd/bin:/usr/local/bin:/usr/bin:/bin tnfd"


def files() -> dict[Path, str]:
    """Every file and its text."""
    home = Path("/Users/USER")
    mac = Target(Owner("USER", 501, 20, home), system=False, config_home=home / ".config", mac=True)
    return {
        PACKAGING / "systemd" / "tnfd.service": user_unit(["@TNFD@"]).replace("@TNFD@", _USER),
        PACKAGING / "systemd" / "tnfd@.service": system_unit(["@TNFD@"]).replace("@TNFD@", _SYSTEM),
        PACKAGING / "launchd" / f"{LABEL}.plist": property_list(
            mac, (str(home / ".local/bin/tnfd"),), None, key=True
        ),
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
