"""A plugin in two steps: the second has a form of its own and knows what the first was told."""

from runner import Text, plugin

INPUT = Text("Input String", "A simple string input.", multiline=True)
EMPTY = "Empty input string, no output could be generated!"


@plugin(
    version="v0.2.1",
    title="hello-world-multi-step",
    description=(
        "Tests the connection of all components by printing some text. "
        "Also tests the ability to execute multi-step plugins."
    ),
    help="This is an example help text with basic **Markdown** support.",
    tags=["hello-world", "demo", "multistep"],
    example={"input_str": "Test."},
)
def hello_world_multi_step(task, input_str: INPUT):
    task.data["input_str"] = input_str
    log = write(task, "output1.txt", "preprocessing", input_str) if input_str else EMPTY
    task.progress(50)
    task.step("demo-step", input_str="Input from preprocessing: " + input_str)
    return log


@hello_world_multi_step.step(example={"input_str": "Sample input string."})
def demo_step(task, input_str: INPUT):
    first = task.data.get("input_str", "")
    log = write(task, "output2.txt", "processing", f"{first} {input_str}") if input_str else EMPTY
    task.progress(100)
    return log


def write(task, name, step, text):
    text = f"Processed in the {step} step: {text}"
    task.output(name, text, data_type="hello-world-output", content_type="text/plain")
    return "result: " + repr(text)
