"""Real rasters with labels, for the benchmarks."""
