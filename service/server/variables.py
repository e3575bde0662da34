"""Settings as text of the environment, read by the type of the field that they set."""

from pathlib import Path

from auralsam2_client.errors import ConfigError

_SWITCHES = {"1": True, "true": True, "0": False, "false": False}
_READERS = {"int": int, "int | None": int, "float": float, "float | None": float, "str": str, "str | None": str}


def parse_variable(name: str, text: str, kind: str) -> object:
    """Read `text`, the value of variable `name`, as a field's type, which is given by its name.

    Raises: ConfigError that names the variable, its value and what it must be.
    """
    if kind in ("bool", str(bool)):
        if text.lower() not in _SWITCHES:
            raise ConfigError(f"{name} = {text!r}; must be 1 or 0. Correct it, or unset it for the default.")
        return _SWITCHES[text.lower()]
    if "Path" in kind:
        if not text:
            raise ConfigError(f"{name} = ''; must be a path. Unset it for the default.")
        return Path(text)
    wanted = "a whole number" if kind.startswith("int") else "a number"
    # The type is the class itself, or text for a union.
    for key, reader in _READERS.items():
        if kind in (key, f"<class '{key}'>"):
            try:
                return reader(text)
            except ValueError as error:
                raise ConfigError(
                    f"{name} = {text!r}; must be {wanted}. Correct it, or unset it for the default."
                ) from error
    raise AssertionError(f"no reader for a field of type {kind}")
