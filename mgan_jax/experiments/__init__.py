"""Experiments: `run(config, workdir, ...)`, the only Python loops over attacks and detectors."""
