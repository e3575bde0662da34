"""Write the reference: a page for each package, with all public docstrings of its modules. A hook of mkdocs.

The pages are made while the site is built, so a new module appears by itself and none can be forgotten. Links from a
page to a file of the repository that is no page lead nowhere in the site: there they become the file's path.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
_OUTWARD = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)\)")
ROOMS = ("auralsam2_client", "auralsam2", "kernels", "model_repository/stage_runtime", "export", "service", "loadtests")


def packages() -> dict[str, list[str]]:
    """The modules of each package, by dotted name, the package itself first. What no package holds is left out."""
    found: dict[str, list[str]] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if path.stem == "__main__" or not (path.parent / "__init__.py").exists():
                continue
            package = ".".join(path.parent.relative_to(ROOT).parts)
            modules = found.setdefault(package, [])
            if path.stem == "__init__":
                modules.insert(0, package)
            else:
                modules.append(f"{package}.{path.stem}")
    return found


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the navigation, in the place of `reference/`."""
    pages = [{name: f"reference/{name}.md"} for name in packages()]
    config.nav = [{"Reference": pages} if "Reference" in entry else entry for entry in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to what mkdocs read from the folder."""
    for name, modules in packages().items():
        text = f"# {name}\n\n" + "\n".join(f"::: {module}\n" for module in modules)
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Turn links to files outside of `docs/` into their paths. What is not there stays a link, which is an error."""

    def path(link: re.Match[str]) -> str:
        return f"{link[1]} (`{link[2]}`)" if (ROOT / link[2]).exists() else link[0]

    return _OUTWARD.sub(path, markdown)
