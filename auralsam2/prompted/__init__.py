"""Points, boxes and masks instead of sound: what a person marks, and the masks and the tracking that follow from it."""
