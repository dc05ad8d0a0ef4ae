"""The units for systemd 252 and newer, as text: a user's own, the system's template, and the drop-ins.

Every directive was watched on a real systemd (tests/systemd). ``packaging/systemd`` holds what this renders
for an installation in the usual place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tnfd.config import Config
from tnfd.service.sandbox import Program, Sandbox, is_hidden, sandbox_of
from tnfd.service.target import MARK, Target

_START_S, _STOP_S, _WATCHDOG_S = 90, 30, 60

_HEAD = """\
# {mark}. Your own settings survive there: systemctl {user}edit {unit}
[Unit]
Description={description}
{order}StartLimitIntervalSec=10min
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
{identity}ExecStart={command} run
ExecReload=/bin/sh -c "kill -HUP $$MAINPID"
Restart=on-failure
RestartSec=5s
# A mistake in the configuration stays one until somebody corrects it.
RestartPreventExitStatus=78
TimeoutStartSec={start_s}s
# It asks for more while what is in progress is being finished (shutdown_grace_s).
TimeoutStopSec={stop_s}s
# A loop that hangs ends with a traceback of the line that hangs.
WatchdogSec={watchdog_s}s
Environment=PYTHONFAULTHANDLER=1
# SIGTERM goes to the daemon alone; it ends its children itself.
KillMode=mixed
"""

_PLACE = """
# Beside whatever else this machine is for.
UMask=0077
LimitCORE=0
Nice=10
IOSchedulingPriority=7
CPUWeight=50
MemoryMax=2G
TasksMax=256
"""

# Left out on purpose: MemoryDenyWriteExecute (breaks whisper), ProcSubset=pid (hides the inotify limits and
# the memory from tnfd doctor). seccomp is allowed: the children that decode take away more from themselves.
_WALLS = """
# What is not named here or in sandbox.conf beside this is hidden or read-only for it.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
{home}PrivateMounts=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateUsers=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
{kernel_logs}ProtectControlGroups=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
KeyringMode=private
{ipc}SystemCallArchitectures=native
SystemCallFilter=@system-service seccomp
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy={wanted_by}
"""

_SYSTEM_IDENTITY = """\
User=%i
# The key: /etc/credstore/openai-api-key, which root alone reads. Without it tnfd says what it lacks.
LoadCredential=openai-api-key
StateDirectory=tnfd/%i
StateDirectoryMode=0700
"""


def user_unit(command: Iterable[str]) -> str:
    """A user's own service."""
    return _unit(
        command,
        user="--user ",
        unit="tnfd.service",
        description="Transcribes the recordings dropped into folders (tnfd)",
        order="",
        identity="",
        # ProtectHome=tmpfs would hide the socket that READY=1 goes to, ProtectKernelLogs is not to be had
        # here, and with PrivateIPC a reload fails (226).
        home="ProtectHome=read-only\nReadWritePaths=%h\n",
        kernel_logs="",
        ipc="",
        wanted_by="default.target",
    )


def system_unit(command: Iterable[str]) -> str:
    """The system's template; the instance is the user's name."""
    return _unit(
        command,
        user="",
        unit="tnfd@USER.service",
        description="Transcribes the recordings dropped into folders, as %i (tnfd)",
        order="Wants=network-online.target\nAfter=network-online.target remote-fs.target\n",
        identity=_SYSTEM_IDENTITY,
        home="ProtectHome=tmpfs\n",
        kernel_logs="ProtectKernelLogs=yes\n",
        ipc="RemoveIPC=yes\nPrivateIPC=yes\n",
        wanted_by="multi-user.target",
    )


def _unit(command: Iterable[str], **parts: str) -> str:
    text = _HEAD + _PLACE + _WALLS
    words = " ".join(map(quoted, command))
    return text.format(
        mark=MARK, command=words, start_s=_START_S, stop_s=_STOP_S, watchdog_s=_WATCHDOG_S, **parts
    )


def sandbox_drop_in(target: Target, config: Config, program: Program) -> str:
    """The folders that this configuration needs, and room for the engines that it has."""
    sandbox = sandbox_of(config, program, target)
    lines = [f"# {MARK}, from the configuration, and anew each time.", "[Service]"]
    if config.file is not None and config.file != Path("/etc/tnfd/config.toml"):
        lines.insert(1, f"# configuration: {config.file}")
        lines.append(f"Environment={quoted(f'TNFD_CONFIG={config.file}')}")
    home = target.owner.home
    if not target.system:
        # The unit alone lets it write to all of its home; from here on only to what is named.
        # Of two rules for one path systemd keeps one: ProtectHome=read-only would win, and show all homes.
        lines += ["ReadWritePaths=", "ProtectHome=no"]
        hiding = dict.fromkeys([Path("/home"), Path("/root"), home])
        shown = [
            path for path in hiding if not any(path != one and path.is_relative_to(one) for one in hiding)
        ]
        lines += [f"TemporaryFileSystem={quoted_path(path)}:ro" for path in shown]
    lines += [_rule(path, home, "BindPaths", "ReadWritePaths") for path in sandbox.written]
    lines += [f"BindReadOnlyPaths=-{quoted_path(path)}" for path in sandbox.read if is_hidden(path, home)]
    lines += _for_engines(sandbox)
    return "\n".join(lines) + "\n"


def _rule(path: Path, home: Path, hidden: str, seen: str) -> str:
    # "-": a folder that is missing is for tnfd to report; systemd would only say 226/NAMESPACE.
    return f"{hidden if is_hidden(path, home) else seen}=-{quoted_path(path)}"


def _for_engines(sandbox: Sandbox) -> list[str]:
    lines = []
    if sandbox.whisper:
        lines += [
            "# A model in memory, and a graphics card if there is one.",
            "MemoryMax=75%", "TasksMax=1024", "PrivateDevices=no", "DeviceAllow=char-nvidia rw",
            "DeviceAllow=char-nvidia-uvm rw", "DeviceAllow=char-nvidia-frontend rw",
            "DeviceAllow=char-drm rw", "DeviceAllow=char-kfd rw", "SystemCallFilter=sched_setaffinity",
        ]  # fmt: skip
    if sandbox.local_only:
        lines += ["# [privacy] local_only", "IPAddressDeny=any", "IPAddressAllow=localhost link-local"]
        lines += ["IPAddressAllow=10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7"]
    return lines


def credential_drop_in(target: Target) -> str:
    """Hands a user's key file over to the user's own service."""
    given = quoted(f"openai-api-key:{target.key_file}")
    return f"# {MARK}.\n[Service]\nLoadCredential={given}\n"


def quoted(word: str) -> str:
    """A word of a unit file; ``%``, ``$`` and what would end it are taken literally (systemd.syntax(7))."""
    escaped = _escaped(os.fsencode(word)).replace("%", "%%").replace("$", "$$")
    plain = all(char.isalnum() or char in "/._-+,:@=%$~" for char in escaped) and escaped
    return escaped if plain else f'"{escaped}"'


def quoted_path(path: Path) -> str:
    """A path in a list of paths; a colon would separate source and destination."""
    escaped = _escaped(os.fsencode(path)).replace("%", "%%").replace(":", "\\\\:")
    plain = all(char.isalnum() or char in "/._-+,@=%~" for char in escaped) and escaped
    return escaped if plain else f'"{escaped}"'


def _escaped(raw: bytes) -> str:
    text = ""
    for byte in raw:
        char = chr(byte)
        if char in '\\"':
            text += f"\\{char}"
        else:
            text += char if 32 <= byte < 127 else f"\\x{byte:02x}"
    return text
