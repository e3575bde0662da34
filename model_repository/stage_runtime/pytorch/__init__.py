"""Stages that compute in PyTorch: the network itself, its weights beside it, each clip one CUDA graph.

On a card in production; with device "cpu" the same modules run without graphs, which is how most of it is tested. The
server's Python may keep PyTorch in an environment of its own: the launcher names its folder, and what the server's own
environment has comes first.
"""

import contextlib
import locale
import os
import sys

from auralsam2_client.contract import TORCH_VARIABLE

sys.path.extend(
    folder for folder in os.environ.get(TORCH_VARIABLE, "").split(os.pathsep) if folder and folder not in sys.path
)
# The server starts its Python without a locale, whatever LANG says, and files are read as ASCII then; Inductor's own
# templates are not.
if locale.getpreferredencoding(False).upper().replace("-", "") != "UTF8":
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
