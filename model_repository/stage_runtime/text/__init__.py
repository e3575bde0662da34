"""What a build with text has beside the fuser: words to numbers, numbers to tokens, and the sound's before them."""
