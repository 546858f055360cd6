"""What schemathesis has to know beside the document."""

import json

import schemathesis

#: A plugin of `plugins/kinds.py` and its parameter that is JSON in the text of a form.
KINDS = "/plugins/every-kind@1-0-0/"


@schemathesis.hook
def map_query(context, query):
    """The longest that a request waits is a minute: too long for a test."""
    if query and isinstance(query.get("wait"), (int, float)) and query["wait"] > 0.2:
        query["wait"] = 0.2
    return query


@schemathesis.hook
def map_body(context, body):
    """What a schema cannot say of a form."""
    if not isinstance(body, dict):
        return body
    # In multipart/form-data a name stands in a header.
    body = {key: value for key, value in body.items() if is_name(key)}
    if context.operation.path.startswith(KINDS) and isinstance(body.get("anything"), str):
        body["anything"] = json.dumps({"anything": body["anything"]})
    return body


def is_name(key):
    return key.isprintable() and not set(key) & {'"', "\\"}
