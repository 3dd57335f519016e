"""From rows to results.json, tables in the terminal, figures and one self-contained page; NumPy in, files out."""
