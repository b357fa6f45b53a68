"""Keep memory that was freed for the next step, instead of giving it back to the operating system and asking again.

Every training step makes and drops the same large arrays. By default the C library returns them to the system at once,
and each new one is brought in page by page, cleared: thousands of times a step, which took 7 % of its time.
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3    # <malloc.h> of glibc
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """From now on this process keeps what it frees, for its own use; returns whether the C library can (glibc can).

    It holds for the whole process, so programs call it (`tinymm train` does), and no import does.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    # No array gets a memory mapping of its own, which ends with it, and the top of the heap is never given back.
    return bool(library.mallopt(M_MMAP_THRESHOLD, 2**30) and library.mallopt(M_TRIM_THRESHOLD, LARGEST))
