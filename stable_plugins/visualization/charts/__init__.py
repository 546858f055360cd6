"""Pictures of entities, for people: a histogram, a scatter plot, a table.

Layout: `histogram`, `scatter` and `table` are a plugin each. `points` reads what is
scattered, `scale` finds round ticks and places values between them, `svg` draws,
`markup` makes any text harmless in XML and HTML, `values` reads numbers and labels
and says where one is wrong.

What they write needs no script and loads nothing. Whoever only sees the file (in an
`img`, a sandboxed frame, a document) sees all of it; tooltips are an extra.
"""

from . import histogram, scatter, table

__all__ = ["histogram", "scatter", "table"]
