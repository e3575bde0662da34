"""Words for a network that was trained here: what it reads of a sentence, and the states that it makes of it."""
