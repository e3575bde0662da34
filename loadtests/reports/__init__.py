"""What a run of the generator says: rates, percentiles, codes, the machine, pictures."""
