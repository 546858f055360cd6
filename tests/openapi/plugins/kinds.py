"""A plugin with every kind of parameter, so that each is sent in every way."""

from runner import (
    Boolean,
    Choice,
    Data,
    Integer,
    Json,
    List,
    Number,
    PluginRef,
    Secret,
    Text,
    Upload,
    Url,
    plugin,
)


@plugin(version="1.0.0", description="Takes everything and does nothing.")
def every_kind(
    task,
    name: Text("Name", min_length=1, max_length=20, pattern="^[a-z ]+$"),
    n_rows: Integer("Rows", minimum=1, maximum=9),
    text: Text(multiline=True) = "",
    secret: Secret("Secret") = None,
    factor: Number("Factor", exclusive_minimum=0) = 0.5,
    flag: Boolean("Flag") = False,
    choice: Choice(["a", "b"], "Choice") = "a",
    numbers: List(Integer(minimum=0), "Numbers", max_items=3) = None,
    choices: List(Choice(["x", "y"]), "Choices") = None,
    url: Url("URL") = None,
    data: Data("entity/list", "text/csv", fetch=False) = None,
    other: PluginRef(["demo"]) = None,
    anything: Json("JSON", schema={"type": "object"}) = None,
    file: Upload("*", "text/plain") = None,
):
    return "nothing was done"


@plugin(version="1.0.0", description="Takes a file.")
def needs_file(task, file: Upload("*", ["text/plain", "text/csv"])):
    return f"{file.name} has {file.size} bytes"


@plugin(version="1.0.0", description="Takes nothing.")
def nothing(task):
    return "done"
