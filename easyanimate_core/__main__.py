"""`python -m easyanimate_core`."""

import signal

# While nothing has begun, Ctrl-C ends the program at once and without a word.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from .cli.main import main

raise SystemExit(main())
