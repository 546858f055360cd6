"""A plugin as a type checker sees it, with the SDK installed."""

from typing import Annotated

from typing_extensions import assert_type

from runner import Called, Input, Integer, ModuleInfo, Output, Task, Text, Upload, plugin


@plugin(version="1.0.0", tags=["demo"], outputs=[Output("custom/shout", "text/plain")])
def shout(
    task: Task,
    text: Annotated[str, Text("Text", multiline=True)],
    file: Annotated[Input, Upload()],
    times: Annotated[int, Integer(minimum=1)] = 1,
) -> str:
    assert_type(task.module, ModuleInfo)
    assert_type(task.module.name, str)
    assert_type(task.call("other"), Called)
    task.output("out.txt", text.upper() * times, data_type="custom/shout")
    with file.open() as content:
        content.read()
    return "done"
