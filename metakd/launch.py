"""`torchrun` without tracebacks of its own: `python -m metakd.launch --standalone --nproc_per_node 2 SCRIPT ...`.

The processes have said what was wrong; the exit code is that of the first one that failed, or that of the signal.
"""

from __future__ import annotations

import logging
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == "__main__":
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # a table of the same failures
    try:
        main()
    except SignalException as error:
        sys.exit(128 + error.sigval)
    except ChildFailedError as error:
        sys.exit(max(1, error.get_first_failure()[1].exitcode))  # negative where a signal killed the process
