"""Makes the plugin's zip, dist/rsfm_qgis.zip, as the plugin repository wants it; the same files give the same bytes."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "rsfm_qgis"
ZIP = ROOT / "dist" / "rsfm_qgis.zip"
SUFFIXES = {".py", ".json", ".svg", ".txt", ".md"}
LIMIT_BYTES = 25 * 10**6
EPOCH = (1980, 1, 1, 0, 0, 0)


def files() -> Iterator[tuple[Path, str]]:
    """List what goes in, with its name in the zip."""
    yield ROOT / "metadata.txt", "metadata.txt"
    yield ROOT / "LICENSE", "LICENSE"
    for path in sorted(PLUGIN.rglob("*")):
        hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(PLUGIN).parts)
        if path.is_file() and path.suffix in SUFFIXES and not hidden:
            yield path, str(path.relative_to(PLUGIN).as_posix())
    for path in sorted((ROOT / "resources" / "icons").glob("*.svg")):
        yield path, f"icons/{path.name}"


def package(target: Path = ZIP) -> Path:
    """Write the zip and return its path."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, name in files():
            entry = zipfile.ZipInfo(f"rsfm_qgis/{name}", EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    if target.stat().st_size > LIMIT_BYTES:
        raise SystemExit(f"{target} has {target.stat().st_size} bytes; the plugin repository takes {LIMIT_BYTES}.")
    return target


if __name__ == "__main__":
    made = package()
    print(f"{made.relative_to(ROOT)}: {made.stat().st_size / 1000:.0f} kB")
