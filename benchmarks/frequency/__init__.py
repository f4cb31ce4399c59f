"""Which frequencies a network learns first: the published experiments, with a verdict for each."""
