"""Writes a zip that has the same bytes whenever and wherever it is written.

    archive.py OUTPUT NAME=FILE...

An entry has its name, its bytes and whether it may be executed; the time is fixed, and the order is that of the arguments.
"""

import os
import pathlib
import stat
import sys
import zipfile

UNIX = 3


def main(output: str, *entries: str) -> None:
    pathlib.Path(output).parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(output, "w") as archive:
        for name, file in (entry.split("=", 1) for entry in entries):
            info = zipfile.ZipInfo(name)
            info.create_system = UNIX
            # The umask of whoever made the file does not matter.
            mode = 0o755 if os.access(file, os.X_OK) else 0o644
            info.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(info, pathlib.Path(file).read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


main(*sys.argv[1:])
