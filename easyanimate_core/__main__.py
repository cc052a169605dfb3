"""`python -m easyanimate_core`."""

from .cli.main import main

raise SystemExit(main())
