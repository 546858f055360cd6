"""Links to what is in the repository and not in the site, such as folders, become plain text."""

import re
from pathlib import PurePosixPath

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^( *)(```|~~~)")


def on_page_markdown(markdown, *, page, config, files):
    """Called by mkdocs for each page."""
    folder = PurePosixPath(page.file.src_uri).parent

    def is_page(target):
        parts = []
        for part in (folder / target).parts:
            if part == "..":
                if not parts:
                    return False
                parts.pop()
            else:
                parts.append(part)
        return files.get_file_from_path("/".join(parts)) is not None

    def plain(found):
        text, target = found[1], found[2]
        return found[0] if "://" in target or is_page(target) else text

    lines, in_block = [], False
    for line in markdown.splitlines():
        if FENCE.match(line):
            in_block = not in_block
        lines.append(line if in_block else LINK.sub(plain, line))
    return "\n".join(lines)
