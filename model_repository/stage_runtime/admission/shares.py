"""How few places or sessions are divided among callers: a share each, and all of them for one whom nobody envies."""


def share_of(limit: int, num_callers: int) -> int:
    """Give the most that one caller may hold while `num_callers`, that one among them, want some; 1 at least.

    Two share by halves. Rounded up, so that nothing stays empty while somebody wants it.
    """
    return max(1, -(-limit // max(1, num_callers)))
