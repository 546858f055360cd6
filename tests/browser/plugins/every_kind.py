"""A form with a field of every kind. The task says what arrived."""

import json

from runner import (
    Boolean,
    Choice,
    Data,
    Integer,
    Json,
    List,
    Number,
    Output,
    PluginRef,
    Secret,
    Text,
    Upload,
    Url,
    plugin,
)


class Related(Data):
    """Data that belongs to what another field has."""

    def rules(self):
        related = {"input_id": "data", "relation": "pre", "include_self": True}
        return {**super().rules(), "x-related": related}


class SecretLines(Secret):
    def rules(self):
        return {**super().rules(), "x-multiline": True}


@plugin(
    version="v1.2.3",
    title="Every kind",
    description="A field of every kind.",
    help="Some **help** with a [link](https://example.org/).",
    tags=["test"],
    outputs=[Output("test/values", "application/json")],
    example={"word": "abc", "count": 7, "choices": ["b", "c"], "words": ["x", "y"]},
)
def every_kind(
    task,
    *,
    word: Text("Word", "Three to *five* letters.", min_length=3, max_length=5, pattern="^[a-z]+$"),
    lines: Text("Lines", multiline=True) = "",
    secret: Secret("Secret", "Is shown to nobody."),
    secret_lines: SecretLines("Secret lines") = "",
    count: Integer("Count", minimum=1, maximum=9) = 3,
    ratio: Number("Ratio", minimum=0) = 0.5,
    flag: Boolean("Flag", "On, unless you say no.") = True,
    choice: Choice({"a": "The first", "b": "The second"}, "Choice") = "a",
    choices: List(Choice(["a", "b", "c"]), "Choices", min_items=1) = ("a",),
    words: List(str, "Words", max_items=3) = (),
    address: Url("Address") = "",
    data: Data(
        "entity/list", ["text/csv", "application/json"], label="Data", description="Entities."
    ) = None,
    labels: Related("entity/label", "application/json", label="Labels", fetch=False) = None,
    helper: PluginRef(["demo", "!broken"], name="hello-world-python", label="Helper") = None,
    upload: Upload(content_type="text/plain", label="Upload") = None,
    settings: Json("Settings", schema={"type": "object"}) = {},
):
    values = {
        "word": word,
        "lines": lines,
        "secret": len(secret),
        "secretLines": len(secret_lines),
        "count": count,
        "ratio": ratio,
        "flag": flag,
        "choice": choice,
        "choices": choices,
        "words": words,
        "address": address,
        "data": data and data.path.read_text(),
        "labels": labels,
        "helper": helper,
        "upload": upload and [upload.name, upload.path.read_text()],
        "settings": settings,
    }
    task.output("values.json", json.dumps(values), data_type="test/values")
    return "done"
