"Rows of the speed table, a file a subject; `benchmarks/speed.py` runs them all."
