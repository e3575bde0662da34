"""What every operator shares: a plan of launches as data, the cards and architectures that they run on, the error."""
