"""The form in which a caller wants the masks: what it asked for, and the arrays that go back."""
