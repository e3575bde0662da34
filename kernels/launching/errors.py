"""What a fused operator says when it cannot do what it is asked."""


class KernelError(ValueError):
    """A shape, type or device that no kernel was written for. The message names the limits; nothing falls back."""
