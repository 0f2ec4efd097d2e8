import sys

from bench.full_scale.command import main

sys.exit(main())
