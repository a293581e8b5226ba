# SPDX-License-Identifier: Apache-2.0
"""Waiting until something happens, with a deadline.

What agentd does shows in files: its log, the facts that it writes before it acts. They ring, and a condition is looked at then.
What rings for nobody (a process that is no child of ours, a port) is looked at after LOOK_SEC at the latest.
"""
import contextlib
import ctypes
import os
import select
import struct
import time

LOOK_SEC = 0.005
MODIFY, CREATED, DELETED, ANYTHING = 0x2, 0x100 | 0x80, 0x200 | 0x40, 0xfff  # inotify(7)
EVENT = struct.Struct("iIII")  # wd, mask, cookie, the length of the name behind it


def events(read):
    """How many are in what was read."""
    n, at = 0, 0
    while at < len(read):
        n, at = n + 1, at + EVENT.size + EVENT.unpack_from(read, at)[3]
    return n


class Bell:
    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")

    def listen(self, path, mask=MODIFY | CREATED | DELETED):
        """To a file, or to those of a folder; what is not there yet does not ring."""
        self.libc.inotify_add_watch(self.fd, os.fsencode(path), mask)

    def hush(self):
        with contextlib.suppress(BlockingIOError):
            while os.read(self.fd, 65536):
                pass

    def wait(self, seconds):
        """Until it rings, or so long. What has rung before may be the doing of who looked last."""
        self.hush()
        select.select([self.fd], [], [], seconds)

    def count(self, most, quiet):
        """Until it has rung so often from now on, or for so long, in seconds, not at all; how often it has."""
        self.hush()
        n = 0
        while n < most and select.select([self.fd], [], [], quiet)[0]:
            n += events(os.read(self.fd, 65536))
        return n

    def close(self):
        os.close(self.fd)


def look_until(condition, deadline, bell):
    """condition() once it is true, its value; else what it was at the deadline, in seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        left = end - time.monotonic()
        if value or left < 0:
            return value
        bell.wait(min(LOOK_SEC, left))


def outlive(pids, seconds):
    """Until one of these processes ends, which none is to do, or so long. True: they all live."""
    with contextlib.ExitStack() as stack:
        fds = [os.pidfd_open(p) for p in pids]
        for fd in fds:
            stack.callback(os.close, fd)
        return not select.select(fds, [], [], seconds)[0]
