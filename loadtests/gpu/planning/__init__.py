"""What is to be measured, within which time, and what was measured already."""
