"""`python -m easyanimate_core`."""

import signal

# Before anything has started, Ctrl-C exits at once, without a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from .cli.main import main

raise SystemExit(main())
