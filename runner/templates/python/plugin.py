"""The plugin @name@."""

from runner import Integer, Output, Text, plugin


@plugin(
    name="@name@",
    version="0.1.0",
    description="Repeats each line of a text.",
    tags=["example"],
    outputs=[Output("text/lines", "text/plain")],
    example={"text": "one\ntwo", "times": 2},
)
def @snake@(
    task,
    text: Text("Text", "Its lines are repeated.", multiline=True),
    times: Integer("Times", "How often each line comes out.", minimum=1, maximum=100) = 2,
):
    """Change me: the type hints become the form, the docstring its help, what is returned the log."""
    lines = text.splitlines()
    task.progress(50)
    repeated = [line for line in lines for _ in range(times)]
    task.output(
        "lines.txt", "\n".join(repeated), data_type="text/lines", content_type="text/plain"
    )
    return f"{len(lines)} lines became {len(repeated)}"
