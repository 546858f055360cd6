"""Keeps an uploaded file as an output, for other plugins to work on."""

from runner import Output, Text, Upload, plugin


@plugin(
    version="v0.2.0",
    title="file-upload",
    description="Uploads files to use in the workflow.",
    type="dataloader",
    tags=["data-loading"],
    outputs=[Output("*", "*")],
)
def file_upload(
    task,
    *,
    # Not required, so that clients of the contract get the same answers; see below.
    file: Upload(label="File", description="File you want to upload") = None,
    data_type: Text("Data Type", "Semantic of the data"),
    content_type: Text("Content Type", "Encoding of the data (mimetype)"),
):
    if file is None:
        raise ValueError("No file in request.")
    task.output(file.name, path=file.path, data_type=data_type, content_type=content_type)
