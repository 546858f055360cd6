"""The form on the picture in the README."""

from runner import Boolean, Choice, Data, Integer, List, Output, Secret, plugin


@plugin(
    version="v1.0.0",
    title="Pick rows",
    outputs=[Output("entity/list", "text/csv")],
    example={"rows": 10},
)
def picture(
    task,
    *,
    paints: Data(
        "entity/list", ["text/csv"], label="Paints", description="A table with **one paint a row**."
    ),
    rows: Integer("Rows", "How many to keep.", minimum=1, messages={"minimum": "At least one."}) = 10,
    order: Choice({"first": "The first ones", "random": "Random ones"}, "Which ones") = "first",
    columns: List(str, "Columns") = (),
    token: Secret("Access token", "Is kept to itself.") = "",
    header: Boolean("With a header") = True,
):
    """Keeps some rows of a table. This text is the plugin's docstring, as *Markdown*."""
