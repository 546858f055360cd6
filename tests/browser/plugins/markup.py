"""Markup in every text that a plugin can set. None of it may act."""

from runner import Choice, Data, Integer, PluginRef, Text, plugin

EVIL = "<img src=x onerror=\"hacked('{}')\"></textarea></option></script><script>hacked('{}')</script>"


def evil(place):
    return f"{place}\" onfocus=hacked('{place}') autofocus x=\"" + EVIL.replace("{}", place)


@plugin(
    name="markup",
    version="v0.0.1",
    title=evil("title"),
    description=evil("description"),
    help=evil("help") + "\n\n[click](javascript:hacked('link')) {{ 7 * 7 }} {% raw %}",
    tags=[evil("tag")],
    example={"text": evil("example")},
)
def markup(
    task,
    *,
    text: Text(evil("label"), evil("field"), pattern="\">" + "x*"),
    lines: Text("Lines", multiline=True) = "\n" + evil("default"),
    choice: Choice({evil("value"): evil("choice")}, "Choice") = None,
    data: Data(evil("type"), [evil("content")], label=evil("data"), fetch=False) = None,
    other: PluginRef([evil("wanted")], name=evil("name"), label=evil("other")) = None,
    count: Integer("Count", minimum=1, messages={"minimum": evil("message")}) = 1,
):
    task.output("out.html", evil("output"), content_type="text/html")
    return evil("log")
