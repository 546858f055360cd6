"""The smallest form: one text, and nothing that could be wrong with it."""

from runner import Text, plugin


@plugin(version="v1.0.0", title="Small")
def small(task, text: Text("Text") = ""):
    task.output("small.csv", text, data_type="entity/list", content_type="text/csv")
    return text
