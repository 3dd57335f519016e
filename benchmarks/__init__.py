"""How fast this project is, against named peers: `python -m benchmarks.mutants`, `.training`, `.startup`; see README.md here."""
