"""Errors of the export room."""


class ExportError(Exception):
    """A stage that cannot be exported, or a setting that this export does not support."""


class ParityError(ExportError):
    """An artifact whose outputs differ from the network's by more than the budget. It does not enter the repository."""
