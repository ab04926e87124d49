"""frozenhead: run a frozen BERT once, keep its vectors, train heads on them in seconds."""
