"""One clip, in every form in which it can be computed on a card."""
