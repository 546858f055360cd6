"""A table of entities, a page at a time."""

from itertools import islice

from runner import Data, Integer, Output, plugin, read_entities

from .markup import cut, escape
from .values import CONTENT_TYPES, ID, count, number, output_name, text

#: Rows on a page.
MAX_ROWS = 1000
#: Columns, and characters of a cell.
MAX_COLUMNS, MAX_CELL = 100, 300

HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
base-uri 'none'; form-action 'none'">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1f2430; --muted: #5b6270; --paper: #fff;
  --band: #f5f6f9; --line: #dfe3ea }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8eaf0; --muted: #a9afbd;
  --paper: #15171c; --band: #1d2026; --line: #363b47 }} }}
body {{ margin: 1.5rem; background: var(--paper); color: var(--ink);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }}
h1 {{ font-size: 18px; font-weight: 600; margin: 0 0 .3rem; overflow-wrap: anywhere }}
p {{ margin: 0 0 .3rem; color: var(--muted) }}
.page {{ overflow-x: auto; margin-top: 1rem; border: 1px solid var(--line); border-radius: 6px;
  width: fit-content; max-width: 100% }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .35rem .75rem; text-align: left; vertical-align: top; max-width: 30rem;
  overflow-wrap: break-word; white-space: pre-wrap }}
thead th {{ border-bottom: 2px solid var(--line) }}
tbody tr:nth-child(even) {{ background: var(--band) }}
tbody th {{ color: var(--muted); font-weight: normal; text-align: right }}
.number {{ text-align: right; white-space: nowrap }}
.null {{ color: var(--muted); font-style: italic }}
</style>
</head>
<body>
<main>
"""


@plugin(
    version="1.0.0",
    title="Table",
    description="Shows entities as a table, page by page.",
    type="visualization",
    tags=["visualization", "table"],
    outputs=[Output("table/html", "text/html")],
)
def table_visualization(
    task,
    *,
    data: Data(
        "entity/*",
        CONTENT_TYPES,
        label="Entities",
        description="URL of a file of entities: CSV, JSON or JSON lines.",
    ),
    first_row: Integer("First row", "Where the page begins.", minimum=1) = 1,
    n_rows: Integer("Number of rows", "How long the page is.", minimum=1, maximum=MAX_ROWS) = 100,
):
    """Shows a page of a file of entities, each in a row, each attribute in a column.

    A column whose values are all numbers is aligned to the right. An attribute that an entity does
    not have is an empty cell. Long texts are cut after 300 characters, wide tables after 100
    columns; the page says so.
    """
    page = Page(first_row)
    entities = read_entities(data)
    skipped = sum(1 for _ in islice(entities, first_row - 1))
    for entity in islice(entities, n_rows):
        page.add(entity)
    total = skipped + len(page.rows) + sum(1 for _ in entities)
    with task.open_output(output_name(data, "table", ".html"), "table/html", "text/html") as file:
        page.write(file, data.name, total)
    return page.where(total)


class Page:
    """Some rows of a file, their cells as text already."""

    def __init__(self, first):
        self.first = first
        #: Of each row the cells by attribute: pairs (text, CSS class).
        self.rows = []
        self.columns = {ID: None}
        self.hidden = set()
        self.shortened = 0
        #: Columns with a value that is no number.
        self.texts = set()
        self.filled = set()

    def add(self, entity):
        row = {}
        for attribute, value in entity.items():
            if attribute not in self.columns:
                if len(self.columns) >= MAX_COLUMNS:
                    self.hidden.add(attribute)
                    continue
                self.columns[attribute] = None
            content = text(value)
            self.shortened += len(content) > MAX_CELL
            row[attribute] = ("null", "null") if value is None else (cut(content, MAX_CELL), "")
            if content:
                self.filled.add(attribute)
                if number(value) is None:
                    self.texts.add(attribute)
        self.rows.append(row)

    def where(self, total):
        """Which rows these are, and how to come to the others."""
        if not self.rows:
            if not total:
                return "There are no entities in this file."
            return f"There is no row {self.first:,}: the file has {count(total, 'row')}."
        last = self.first + len(self.rows) - 1
        if len(self.rows) == total:
            return "1 row." if total == 1 else f"All {total:,} rows."
        place = f"Rows {self.first:,} to {last:,}" if last > self.first else f"Row {last:,}"
        after = f" The next page begins with row {last + 1:,}." if last < total else ""
        return f"{place} of {total:,}.{after}"

    def limits(self):
        if self.hidden:
            shown = len(self.columns)
            yield f"The first {shown} columns are shown, {len(self.hidden):,} more are not."
        if self.shortened:
            cells = count(self.shortened, "longer text is", "longer texts are")
            yield f"{cells} cut after {MAX_CELL} characters."

    def write(self, file, name, total):
        title = escape(cut(name, 200))
        file.write(HEAD.format(title=title))
        file.write(f"<h1>{title}</h1>\n")
        for note in (self.where(total), *self.limits()):
            file.write(f"<p>{escape(note)}</p>\n")
        if self.rows:
            columns = [name for name in self.columns if any(name in row for row in self.rows)]
            label = f'role="region" aria-label="{title}"'
            file.write(f'<div class="page" {label} tabindex="0">\n<table>\n')
            self._write_rows(file, columns)
            file.write("</table>\n</div>\n")
        file.write("</main>\n</body>\n</html>\n")

    def _write_rows(self, file, columns):
        numeric = {name for name in columns if name in self.filled and name not in self.texts}

        def kind(name, own=""):
            own = " ".join(filter(None, (own, "number" if name in numeric else "")))
            return f' class="{own}"' if own else ""

        file.write('<thead>\n<tr><th scope="col" class="number">Row</th>')
        for name in columns:
            file.write(f'<th scope="col"{kind(name)}>{escape(cut(name, MAX_CELL))}</th>')
        file.write("</tr>\n</thead>\n<tbody>\n")
        for at, row in enumerate(self.rows, self.first):
            file.write(f'<tr><th scope="row">{at}</th>')
            for name in columns:
                content, own = row.get(name, ("", ""))
                file.write(f"<td{kind(name, own)}>{escape(content)}</td>")
            file.write("</tr>\n")
        file.write("</tbody>\n")
