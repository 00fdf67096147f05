import sys

from metaalign.cli.main import main

sys.exit(main())
