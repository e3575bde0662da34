"""Choose the build of torch that set-up installs: for the CPU, or for CUDA where NVIDIA's driver is there.

Run it from the checkout: `python3 -m requirements.torch_choice auto`. It prints the file of requirements to install,
and says why on stderr. It needs the standard library alone, since it runs before anything is installed.
"""

import sys

from service.cards.driver import LEAST_DRIVER, Seen, installed_driver, version_text

CPU, CUDA = "requirements/torch.txt", "requirements/torch-cuda.txt"
# What the torch of torch-cuda.txt is built for, where PyPI's is taken.
BUILT_FOR = (13, 0)
CHOICES = ("auto", "cpu", "cuda")


def choose(wanted: str, seen: Seen) -> tuple[str, str]:
    """Choose the file of requirements, and say why.

    Args:
        wanted: "cpu" or "cuda", which are taken at their word, or "auto": CUDA where a driver runs it and has a card.
        seen: what the driver says.
    Raises: ValueError for another word.
    """
    if wanted not in CHOICES:
        raise ValueError(f"TORCH={wanted}; must be one of {', '.join(CHOICES)}.")
    if wanted != "auto":
        return (CPU if wanted == "cpu" else CUDA), f"TORCH={wanted}"
    if seen.version is None or not seen.cards:
        return CPU, seen.reason
    if seen.cuda is not None and seen.cuda[0] < BUILT_FOR[0]:
        return CPU, (
            f"{seen}, and the CUDA build is for {version_text(BUILT_FOR)}, which needs driver"
            f" {LEAST_DRIVER[BUILT_FOR[0]]} or newer. Update the driver, then: make setup TORCH=cuda"
        )
    return CUDA, f"{', '.join(map(str, seen.cards))}; {seen}"


def main() -> None:
    """Print the choice for the word that is given. Ends with a message for a word that is none."""
    wanted = sys.argv[1] if len(sys.argv) > 1 else "auto"
    try:
        file, why = choose(wanted, installed_driver().look())
    except ValueError as error:
        raise SystemExit(str(error)) from None
    print(f"torch: the {'CPU' if file == CPU else 'CUDA'} build ({why})", file=sys.stderr)
    print(file)


if __name__ == "__main__":
    main()
