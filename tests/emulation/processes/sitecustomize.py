"""Python imports this as it starts: what the tests start begins processes as they do."""

import multiprocessing
import os

multiprocessing.set_start_method(os.environ["EASYANIMATE_TEST_START"], force=True)
