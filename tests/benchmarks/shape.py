"""How large the code is and how it hangs together: files, lines, and the imports inside core.

    python -m tests.benchmarks.shape [CHECKOUT ...]

Counts what is there, whatever the layout, so that two checkouts can be compared.
"""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path


def shape(checkout: Path) -> dict[str, int | float]:
    """Return the figures of a checkout's agent/ and, of its core, of packages and imports."""
    root = checkout / "agent"
    lines = {file: len(file.read_text("utf-8").splitlines()) for file in root.rglob("*.py")}
    core = root / "core"
    imports = {edge for file in core.rglob("*.py") for edge in _imports(file, checkout)}
    modules = {(one, other) for one, other in imports if one != other}
    packages = {(_package(one), _package(other)) for one, other in modules}
    packages = {(one, other) for one, other in packages if one != other}
    return {
        "files": len(lines),
        "lines": sum(lines.values()),
        "median lines of a file": statistics.median(lines.values()),
        "lines of the largest file": max(lines.values()),
        "modules of core": sum(1 for file in core.rglob("*.py") if file.name != "__init__.py"),
        "modules directly in core": sum(1 for f in core.glob("*.py") if f.name != "__init__.py"),
        "packages of core": sum(1 for file in core.glob("*/__init__.py")),
        "import edges between modules of core": len(modules),
        "import edges between what lies directly in core": len(packages),
    }


def _imports(file: Path, checkout: Path) -> set[tuple[str, str]]:
    here = _name(file, checkout)
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("agent.core"):
            for alias in node.names:
                inner = checkout / f"{node.module}.{alias.name}".replace(".", "/")
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                found.add((here, f"{node.module}.{alias.name}" if is_module else node.module))
    return found


def _name(file: Path, checkout: Path) -> str:
    parts = file.relative_to(checkout).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _package(module: str) -> str:
    """Return what lies directly in core: a package, or a module of its own."""
    return module.split(".")[2] if module.count(".") > 1 else module


def main() -> None:
    """Print one column for each checkout, this one by default."""
    checkouts = [Path(one) for one in sys.argv[1:]] or [Path(__file__).parents[2]]
    columns = [shape(checkout) for checkout in checkouts]
    width = max(map(len, columns[0]))
    for name in columns[0]:
        figures = "".join(f"{column[name]:>10g}" for column in columns)
        sys.stdout.write(f"{name:<{width}}{figures}\n")


if __name__ == "__main__":
    main()
