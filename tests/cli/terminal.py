"""The command on a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios


def on_a_terminal(*arguments: str, columns: int = 80) -> str:
    """Run the command on a terminal of this width; return what it prints, with newlines alone."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "agentx_persistence", *arguments],
        stdout=follower,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(follower)
    printed = b""
    try:
        while piece := os.read(leader, 65_536):
            printed += piece
    except OSError:  # so it ends on Linux, when the last process has closed it
        pass
    finally:
        os.close(leader)
        assert process.wait(60) == 0
    return printed.decode().replace("\r\n", "\n")
