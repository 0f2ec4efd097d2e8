"""Takes as long to import as torch on a disk that hardly answers."""

import time

time.sleep(3600)
