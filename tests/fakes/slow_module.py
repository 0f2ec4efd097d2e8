"""Takes as long to import as torch on a slow disk."""

import time

time.sleep(4.0)
