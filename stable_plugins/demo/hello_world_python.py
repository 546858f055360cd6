"""The smallest useful plugin in Python: text in, file out."""

from runner import Output, Text, plugin


@plugin(
    version="v0.2.1",
    title="hello-world-python",
    description="Tests the connection of all components by printing some text.",
    help="This is an example help text with basic **Markdown** support.",
    tags=["hello-world", "demo"],
    outputs=[Output("custom/hello-world-output", "text/plain")],
    example={"input_str": "Sample input string."},
)
def hello_world_python(
    task,
    input_str: Text("Input String", "A simple string input.", multiline=True),
):
    if not input_str:
        return "Empty input string, no output could be generated!"
    text = input_str.replace("input", "output")
    task.output("out.txt", text, data_type="custom/hello-world-output", content_type="text/plain")
    return "result: " + repr(text)
