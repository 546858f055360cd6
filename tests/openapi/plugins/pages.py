"""A plugin with routes of its own, so that the document has some."""

from runner import plugin


@plugin(version="1.0.0", description="Has a page.")
def paged(task):
    return "done"


@paged.route("/page/{name}")
def page(request, name):
    return {"name": name}
