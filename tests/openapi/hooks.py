"""What schemathesis has to know beside the document."""

import json

import schemathesis

#: A plugin of `plugins/kinds.py` and its parameter that is JSON in the text of a form.
KINDS = "/plugins/every-kind@1-0-0/"
JSON = "application/json"


@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query or {}
    if isinstance(query.get("wait"), (int, float)) and query["wait"] > 0.2:
        # The longest that a request waits is a minute: too long for a test.
        query["wait"] = 0.2
    if isinstance(case.body, dict) and case.media_type != JSON:
        case.body = form(case.path, case.body)


def form(path, fields):
    """The same form, without what a schema cannot exclude."""
    # In multipart/form-data a name stands in a header.
    fields = {name: value for name, value in fields.items() if is_name(name)}
    if path.startswith(KINDS) and isinstance(fields.get("anything"), str):
        fields["anything"] = json.dumps({"anything": fields["anything"]})
    return fields


def is_name(text):
    return text.isprintable() and not set(text) & {'"', "\\"}
