"""Everything that is needed to do the run again."""

import json
from typing import Any

from rsfm.report_parts import download, paragraph, table, text
from rsfm.section import Record, Section

LICENCE = (
    "RSFM is free software under the GNU GPL, version 2 or later. What a run makes is yours, within the licence of the "
    "imagery it was made from: a trained network and its maps may count as derived from it."
)


class Repeat(Section):
    name = "repeat"
    title = "To do it again"
    rank = 90

    def show(self, record: Record) -> str:
        config = json.dumps(record.config, indent=1, ensure_ascii=False)
        job = record.run["job"]
        command = f"rsfm run {job} {job}.json"
        seed = record.config.get("seed")
        parts = [
            f"<p>Save {download(f'{job}.json', config, f'the parameters as {job}.json')} and run, in its folder:</p>",
            f"<pre>{text(command)}</pre>",
        ]
        if seed is not None:
            parts.append(
                paragraph(
                    f"The seed is {seed}. With the same files, versions and number of steps the result is the same on "
                    "the same processor, and nearly so on a GPU. A budget in minutes makes as many steps as the "
                    "machine manages in them; set 'Epochs' in its place to repeat a run step by step."
                )
            )
        parts += [_software(record), _files(record.shown("files")), paragraph(LICENCE)]
        return "".join([*parts, f"<details open><summary>Parameters</summary><pre>{text(config)}</pre></details>"])


def _software(record: Record) -> str:
    found = {"rsfm": record.run["version"], "python": record.run.get("python", "unknown")}
    found |= record.shown("machine").get("software", {})
    return paragraph(f"Software: {', '.join(f'{name} {version}' for name, version in found.items())}.")


def _files(found: dict[str, Any]) -> str:
    if "files" not in found:
        return ""
    rows = [
        (file["path"], file.get("bytes", "-"), file.get("changed", "-"), file.get("digest", "not a file of its own"))
        for file in found["files"]
    ]
    more = found["all"] - len(rows)
    return (
        "<h3>Files that were read</h3>"
        + paragraph(
            "The mark is of the size and of three pieces of a file; a file that has another one is not the same."
        )
        + table(["File", "Bytes", "Last changed, UTC", "Mark (BLAKE2b)"], rows)
        + (paragraph(f"And {more:,} more.") if more > 0 else "")
    )
