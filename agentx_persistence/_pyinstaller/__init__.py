"""The hook of PyInstaller, which finds it by the entry point `pyinstaller40`."""

from __future__ import annotations

import os


def hook_dirs() -> list[str]:
    return [os.path.dirname(__file__)]
