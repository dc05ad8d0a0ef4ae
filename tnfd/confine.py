"""What the kernel takes away from processes that read strangers' files: sockets, programs, processes, files.

Two walls of Linux, each for the calling process and all that it forks, for good: ``shut_off`` (seccomp)
refuses system calls that no decoder needs; ``keep_to`` (Landlock) leaves it the files that it was given. Each
says why it is not in force instead of raising: decoding never fails for the want of a wall. Elsewhere there
is neither, and both say so.

Stands alone (standard library only), so that a child which is run by its file can load it; run as a program
it tries both walls on itself and prints what is missing, one reason a line.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import socket
import stat
import struct
import sys
from collections.abc import Iterable, Iterator

# -- seccomp: linux/seccomp.h, linux/filter.h, linux/audit.h ------------------------------------------------

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
_X32 = 0x40000000  # the second numbering of system calls on x86_64

# Numbers on x86_64 and aarch64 (the kernel's unistd tables); None: the call does not exist there.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # the network
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # programs and other processes
    "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "perf_event_open": (298, 241), "bpf": (321, 280), "userfaultfd": (323, 282), "personality": (135, 92),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    # the house: mounts, namespaces, modules, files by number, names that lead elsewhere
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "unshare": (272, 97), "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsmount": (432, 432), "open_by_handle_at": (304, 265), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "reboot": (169, 142),
    "swapon": (167, 224), "mknod": (133, None), "mknodat": (259, 33), "symlink": (88, None),
    "symlinkat": (266, 36), "link": (86, None), "linkat": (265, 37),
}  # fmt: skip
_FORKS: dict[str, tuple[int | None, int | None]] = {"fork": (57, None), "vfork": (58, None)}
_CLONE, _CLONE3, _SECCOMP = (56, 220), (435, 435), (317, 277)
_SIGNALS = {"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131)}
_CLONE_THREAD = 0x00010000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data, little endian


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def shut_off(*, forks: bool) -> str | None:
    """Refuse sockets, programs and other processes from now on; None once that was seen to be in force.

    Without ``forks`` no process can be made either, and signals reach this process alone. Threads can.
    """
    machine = _machine()
    if machine is None:
        return f"system calls cannot be refused on {sys.platform} {platform.machine()}"
    try:
        _install(_program(*machine, forks=forks), machine[1])
    except OSError as error:
        return f"the kernel takes no seccomp filter: {error.strerror}"
    return (
        None
        if not _can_open_socket()
        else "a seccomp filter is in place, and sockets can be opened all the same"
    )


def _machine() -> tuple[int, int] | None:
    """(AUDIT_ARCH, column of the tables); None where this module knows no numbers."""
    name = platform.machine()
    if not sys.platform.startswith("linux") or name not in _ARCHITECTURES or sys.maxsize < 2**32:
        return None
    return _ARCHITECTURES[name], 0 if name == "x86_64" else 1


def _program(architecture: int, column: int, *, forks: bool) -> bytes:
    """The filter: a list of ``struct sock_filter``; conditions jump over the one instruction that follows."""
    refuse = _op(_RETURN, _ERRNO | errno.EPERM)
    program = [_op(_LOAD, _ARCHITECTURE_AT), _op(_EQUAL, architecture, 1, 0), refuse, _op(_LOAD, _NUMBER_AT)]
    if column == 0:
        program += [_op(_AT_LEAST, _X32, 0, 1), refuse]
    refused = {**_REFUSED, **({} if forks else _FORKS)}
    for number in (numbers[column] for numbers in refused.values()):
        if number is not None:
            program += [_op(_EQUAL, number, 0, 1), refuse]
    if not forks:
        # clone3's flags lie in memory, out of a filter's sight; on ENOSYS glibc and musl take clone.
        program += [_op(_EQUAL, _CLONE3[column], 0, 1), _op(_RETURN, _ERRNO | errno.ENOSYS)]
        program += _if(_CLONE[column], [_op(_ANY_BIT, _CLONE_THREAD, 1, 0), refuse])
        for number in (numbers[column] for numbers in _SIGNALS.values()):
            program += _if(number, [_op(_EQUAL, os.getpid(), 1, 0), refuse])
    return b"".join([*program, _op(_RETURN, _ALLOW)])


def _if(number: int, then: list[bytes]) -> list[bytes]:
    """For one system call look at the lower half of its first argument, and decide."""
    body = [_op(_LOAD, _ARGUMENTS_AT), *then, _op(_RETURN, _ALLOW)]
    return [_op(_EQUAL, number, 0, len(body)), *body]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _install(program: bytes, column: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    one = _Filter(len(program) // 8, program)
    _check(libc.syscall(_SECCOMP[column], _SET_MODE_FILTER, 0, ctypes.byref(one)))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _can_open_socket() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except PermissionError:
        return False
    except OSError:
        return True  # another reason: the filter did not get in the way
    return True


# -- Landlock: linux/landlock.h; the numbers are the same on all architectures ------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_WRITE_FILE, _REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1 << 1, 1 << 5, 1 << 8, 1 << 14
_RIGHTS = (13, 13, 14, 15, 15, 16)  # how many file rights each version knows, from the first on
_TCP, _TCP_SINCE = 0b11, 4  # bind and connect
_SCOPES, _SCOPES_SINCE = 0b11, 6  # abstract sockets and signals of other domains


def offers_landlock() -> bool:
    """Whether ``keep_to`` can work here; changes nothing."""
    if not sys.platform.startswith("linux"):
        return False
    return int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _VERSION)) > 0


def keep_to(files: Iterable[int], folders: Iterable[int], paths: Iterable[str] = ()) -> str | None:
    """Leave this process ``files`` and ``paths`` (folders and files) to read, and ``folders`` to write.

    What is open stays open. None once it was seen to be in force.
    """
    if not sys.platform.startswith("linux"):
        return f"files cannot be kept away from a process on {sys.platform}"
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        version = _check(libc.syscall(_CREATE_RULESET, None, 0, _VERSION))
        handled = (1 << _RIGHTS[min(version, len(_RIGHTS)) - 1]) - 1
        network, scopes = (_TCP if version >= _TCP_SINCE else 0), (_SCOPES if version >= _SCOPES_SINCE else 0)
        rules = struct.pack("=QQQ", handled, network, scopes)
        ruleset = _check(libc.syscall(_CREATE_RULESET, rules, len(rules) if version >= _TCP_SINCE else 8, 0))
        try:
            for fd, rights in _grants(files, folders, paths):
                rule = struct.pack("=Qi", rights & handled, fd)
                _check(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
            _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
            _check(libc.syscall(_RESTRICT_SELF, ruleset, 0))
        finally:
            os.close(ruleset)
    except OSError as error:
        return f"the kernel offers no Landlock: {error.strerror}"
    return None if not _can_list_root() else "Landlock is in place, and other files can be read all the same"


def _grants(files: Iterable[int], folders: Iterable[int], paths: Iterable[str]) -> Iterator[tuple[int, int]]:
    for fd in files:
        yield fd, _READ_FILE
    for fd in folders:
        yield fd, _READ_FILE | _READ_DIR | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield fd, _READ_FILE | (_READ_DIR if stat.S_ISDIR(os.fstat(fd).st_mode) else 0)
            finally:
                os.close(fd)


def _can_list_root() -> bool:
    try:
        os.listdir("/")
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def missing() -> list[str]:
    """Put both walls round this process, for good; return why each that is missing is missing."""
    return [why for why in (shut_off(forks=False), keep_to((), ())) if why is not None]


if __name__ == "__main__":
    print("\n".join(missing()))  # noqa: T201  what a program answers
