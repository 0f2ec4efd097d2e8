"""Two files with one content that take the space of one, where the file system can.

reflink    blocks are shared until one of the files is written to: two files for all purposes
           (Btrfs, XFS, bcachefs; by the ioctl FICLONE of Linux)
hard link  one file with two names: what is written through one is read through the other
"""

from __future__ import annotations

import os
import sys
from typing import IO

HAS_LINKAT = os.link in os.supports_dir_fd and os.link in os.supports_follow_symlinks
"""Without it (Windows) nothing is linked."""
_FICLONE = 0x40049409
"""_IOW(0x94, 9, int) of linux/fs.h, on x86 and ARM."""


def clone(source: IO[bytes], target: IO[bytes]) -> bool:
    """Make an empty file a reflink of another one; False where that cannot be done."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:  # another file system, or one that has none: ext4, NFS
        return False
    return True


def alike(source: IO[bytes], target: IO[bytes]) -> bool:
    """Whether a file is the same user's, group's and of the same rights as another, on one file
    system: nobody else may write to it, and no one who may read the one is kept from the other."""
    one, other = os.fstat(source.fileno()), os.fstat(target.fileno())
    names = ("st_dev", "st_uid", "st_gid", "st_mode")
    return all(getattr(one, name) == getattr(other, name) for name in names)
