"""The second wall of promise 9: a process that loads models may not write, execute or connect.

Landlock takes away writing (but beneath given folders), executing, and TCP; seccomp takes away the system calls for
sockets, other processes and the kernel. Both are for good, and for every thread that begins later; they are put up
before the first byte of a model is read. What the kernel does not have is left out, and said.

See ``landlock(7)``, ``seccomp(2)``; the numbers are those of the kernel's headers.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
# What Landlock governs here, by the version that brought it; reading and listing stay free.
_WRITING = (1 << 1) | sum(1 << bit for bit in range(4, 13))
_EXECUTE, _REFER, _TRUNCATE, _DEVICES = 1 << 0, 1 << 13, 1 << 14, 1 << 15
_BIND, _CONNECT, _FOREIGN_SOCKETS, _SIGNALS = 1 << 0, 1 << 1, 1 << 0, 1 << 1
_SECCOMP = {"x86_64": (317, 0xC000003E), "aarch64": (277, 0xC00000B7)}
_SET_FILTER, _ALL_THREADS, _ALLOW, _REFUSE = 1, 1, 0x7FFF0000, 0x00050000
#: system calls that a process with models needs none of: (x86_64, aarch64)
_CALLS = {
    "execve": (59, 221), "execveat": (322, 281), "bind": (49, 200), "listen": (50, 201), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "setns": (308, 268), "unshare": (272, 97), "bpf": (321, 280),
    "perf_event_open": (298, 241), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "open_by_handle_at": (304, 265), "init_module": (175, 105),
    "finit_module": (313, 273), "kexec_load": (246, 104), "pidfd_getfd": (438, 438), "personality": (135, 92),
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, -1), "lchown": (94, -1),
    "fchown": (93, 55), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "fchmodat2": (452, 452), "setxattrat": (463, 463),
}  # fmt: skip
_NETWORK = {"socket": (41, 198), "connect": (42, 203)}
_X32 = 0x40000000
#: ``ioctl``: its number, where its request lies in what the filter reads, and the requests TIOCSTI and TIOCLINUX
_IOCTL, _REQUEST, _TERMINAL = (16, 29), 24, (0x5412, 0x541C)
#: what is said where ``wall.enabled`` is false
OFF = "off, as wall.enabled says"


def put_up(may_write: Sequence[Path] = (), *, may_connect: bool = False, may_listen: bool = False) -> str:
    """Put up the wall around this process; only folders in ``may_write`` can be written beneath from here on.

    ``may_listen``: sockets that are bound already may listen.

    Returns ``"whole"``, or what this kernel does not have. May be called again; it only ever becomes narrower.
    """
    os.environ.setdefault("JOBLIB_MULTIPROCESSING", "0")  # else it tries to write when River is imported, and warns
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    missing = [
        _landlock(libc, may_write, may_connect=may_connect),
        _seccomp(libc, connect=may_connect, listen=may_listen),
    ]
    return "; ".join(one for one in missing if one) or "whole"


def _landlock(libc: ctypes.CDLL, may_write: Sequence[Path], *, may_connect: bool) -> str:
    """Forbid writing and executing; return what is missing."""
    version = libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    if version < 1:
        return f"no Landlock: {_why(ctypes.get_errno())}"
    files = _WRITING | _EXECUTE | sum(
        bit for since, bit in ((2, _REFER), (3, _TRUNCATE), (5, _DEVICES)) if version >= since
    )  # fmt: skip
    network = 0 if version < 4 else _BIND if may_connect else _BIND | _CONNECT
    scoped = (0 if may_connect else _FOREIGN_SOCKETS) | _SIGNALS if version >= 6 else 0
    wanted = struct.pack("<QQQ", files, network, scoped)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = libc.syscall(_CREATE_RULESET, ctypes.c_char_p(wanted), ctypes.c_size_t(len(wanted)), 0)
    if rules < 0:
        return f"no Landlock: {_why(ctypes.get_errno())}"
    try:
        for folder in may_write:
            _allow(libc, rules, folder, files & ~_EXECUTE & ~_DEVICES)
        if libc.syscall(_RESTRICT_SELF, rules, 0) < 0:
            return f"no Landlock: {_why(ctypes.get_errno())}"
    finally:
        os.close(rules)
    return "" if version >= 3 else f"Landlock of version {version} cannot forbid truncating"


def _allow(libc: ctypes.CDLL, rules: int, folder: Path, access: int) -> None:
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # it is not there, so that nobody writes beneath it
    try:
        rule = struct.pack("<Qi", access, descriptor)
        libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(descriptor)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _seccomp(libc: ctypes.CDLL, *, connect: bool, listen: bool) -> str:
    """Forbid system calls, in all threads; return what is missing."""
    machine = platform.machine()
    if machine not in _SECCOMP:
        return f"no seccomp filter for {machine}"
    call, architecture = _SECCOMP[machine]
    column = list(_SECCOMP).index(machine)
    calls = {**_CALLS, **({} if connect else _NETWORK)}
    if listen:
        del calls["listen"]
    program = _filter(
        [numbers[column] for numbers in calls.values() if numbers[column] >= 0], architecture, _IOCTL[column]
    )
    given = _Program(len(program) // 8, program)
    if libc.syscall(call, _SET_FILTER, _ALL_THREADS, ctypes.byref(given)) != 0:
        return f"no seccomp: {_why(ctypes.get_errno())}"
    return ""


def _filter(calls: Sequence[int], architecture: int, ioctl: int) -> bytes:
    """A program of classic BPF: EPERM for these calls and for calls of another architecture, else go on.

    Of ``ioctl``, what types into a terminal is refused: a shell that reads from it would run that.

    A jump counts the lines that it leaves out.
    """
    load, equal, least, answer = 0x20, 0x15, 0x35, 0x06
    terminal = 5 + len(calls)
    refusal = terminal + 2 + len(_TERMINAL)
    lines = [
        (load, 0, 0, 4), (equal, 0, refusal - 2, architecture), (load, 0, 0, 0), (least, refusal - 4, 0, _X32),
        *((equal, refusal - at, 0, number) for at, number in enumerate(calls, 5)),
        (equal, 0, refusal - terminal - 1, ioctl), (load, 0, 0, _REQUEST),
        *((equal, refusal - at, 0, number) for at, number in enumerate(_TERMINAL, terminal + 2)),
        (answer, 0, 0, _ALLOW), (answer, 0, 0, _REFUSE | errno.EPERM),
    ]  # fmt: skip
    return b"".join(struct.pack("<HBBI", *line) for line in lines)


def _why(number: int) -> str:
    return os.strerror(number) or f"error {number}"
