"""From files to things that run, and what stands in their way: the impossible and the doubtful."""
