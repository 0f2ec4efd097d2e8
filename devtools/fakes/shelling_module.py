"""A module whose import runs a program, as some do to ask for a version. Raises if that fails."""

import subprocess
import sys

for _ in range(5):
    done = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(3)"])
    if (code := done.wait()) != 3:
        raise ImportError(f"the program ended with {code} instead of 3")
