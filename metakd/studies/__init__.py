"""Studies: tasks x methods x domains x seeds x label fractions, each cell run once and kept as one small file."""
