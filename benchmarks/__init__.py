"""How fast this project is, against named peers: `python -m benchmarks.mutants`, `.training`, `.startup`; see README.md here."""

import os

# PyTorch, and the processes that some rows start, share an accelerator with us: XLA must not take its memory beforehand.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
