"""The form on the picture in the README."""

from runner import Boolean, Choice, Data, Integer, Output, plugin


@plugin(
    version="v1.0.0",
    title="Pick rows",
    outputs=[Output("entity/list", "text/csv")],
)
def picture(
    task,
    *,
    paints: Data(
        "entity/list", ["text/csv"], label="Paints", description="A table with **one paint a row**."
    ),
    rows: Integer("Rows", "How many to keep.", minimum=1, messages={"minimum": "At least one."}) = 10,
    order: Choice({"first": "The first ones", "random": "Random ones"}, "Which ones") = "first",
    header: Boolean("With a header") = True,
):
    """Keeps some rows of a table. This is its docstring, as *Markdown*."""
