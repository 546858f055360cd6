"""Keeps some rows and some attributes of a list of entities."""

import random
from enum import Enum
from itertools import islice
from pathlib import PurePosixPath

from runner import Choice, Data, Integer, List, Output, plugin, read_entities, write_entities
from runner.entities import entity_format, extension


class Attributes(Enum):
    ALLOWLIST = "ALLOWLIST"
    BLOCKLIST = "BLOCKLIST"


class Rows(Enum):
    RANDOM = "RANDOM"
    FIRST_N = "FIRST_N"
    ALL_ROWS = "ALL_ROWS"


@plugin(
    version="v0.2.1",
    title="Entity loader/filter",
    description="Loads and filters entities from a file that contains a list of entities.",
    tags=["preprocessing", "filter", "sample"],
    outputs=[Output("entity/list", ["application/json", "text/csv"])],
    example={"n_rows": 5, "attributes": ["ID"]},
)
def entity_filter(
    task,
    *,
    input_file_url: Data("entity/list", ["application/json", "text/csv"], label="Entities URL"),
    attributes: List(
        str,
        "Attributes",
        "List of attributes in allowlist/blocklist.",
    ) = None,
    attribute_filter_strategy: Choice(
        Attributes,
        "Attribute Filter Setting",
        "Specify attribute list as allowlist or blocklist.",
        labels={Attributes.ALLOWLIST: "Allowlist", Attributes.BLOCKLIST: "Blocklist"},
    ),
    n_rows: Integer(
        "Number of Rows",
        "Integer of number of rows that should be kept.",
        minimum=1,
        messages={"minimum": "Number of Rows must be a positive number."},
    ) = None,
    row_sampling: Choice(
        Rows,
        "Row Sampling",
        "Specify if rows are chosen randomly or first n in case that Number of Rows is set and the "
        "ID list is smaller than Number of Rows. If All Rows is chosen, Number of Rows is ignored.",
        labels={
            Rows.RANDOM: "Randomly",
            Rows.FIRST_N: "First n (Number of Rows)",
            Rows.ALL_ROWS: "All Rows",
        },
    ),
    id_list: List(
        str,
        "ID List",
        "Comma separated list of IDs that should be kept. If their number is smaller than Number "
        "of Rows, remaining rows are chosen according to Row Sampling.",
    ) = None,
):
    """Keeps rows and attributes of a file of entities, in the format and the order of the file.

    **Rows:** with *All Rows*, all of them, or those of the ID list if there is one. Otherwise
    *Number of Rows* in all: first those of the ID list, then rows by chance or from the top.
    It is an error if an ID is not found, or if there are fewer rows than asked for.

    **Attributes:** an allowlist keeps the attributes that it names, a blocklist removes them. The
    `ID` is kept in any case.
    """
    ids = set(id_list or ())
    if row_sampling is Rows.ALL_ROWS:
        n_rows = None
    if n_rows is not None and len(ids) > n_rows:
        raise ValueError("Length of ID list greater than number of rows!")

    def rows():
        return read_entities(input_file_url)

    if n_rows is None and not ids:
        chosen = rows()
    else:
        sampled = 0 if n_rows is None else n_rows - len(ids)
        picked = random_rows(rows(), ids, sampled) if row_sampling is Rows.RANDOM else None
        chosen = filter_rows(rows(), ids, sampled, picked)

    format = entity_format(input_file_url.content_type, input_file_url.name)
    name = f"filtered_{PurePosixPath(input_file_url.name).stem}{extension(format)}"
    kept = filter_attributes(chosen, set(attributes or ()), attribute_filter_strategy)
    write_entities(task, kept, format, name=name)
    return "Filter successful."


def identity(entity):
    return str(entity.get("ID"))


def candidates(entities, ids):
    """Pairs (entity, whether its ID is asked for). Of two rows with one ID, the first is meant."""
    missing = set(ids)
    for entity in entities:
        listed = identity(entity) in missing
        if listed:
            missing.remove(identity(entity))
        yield entity, listed


def random_rows(entities, ids, count):
    """The positions of `count` rows that are not listed, each as likely as any other."""
    others = (at for at, (_, listed) in enumerate(candidates(entities, ids)) if not listed)
    picked = list(islice(others, count))
    for seen, at in enumerate(others, count + 1):  # reservoir sampling: one pass, `count` numbers
        place = random.randrange(seen)
        if place < count:
            picked[place] = at
    return set(picked)


def filter_rows(entities, ids, count, picked):
    """The listed rows and `count` others: those at the positions `picked`, else the first."""
    found, sampled = set(), 0
    for at, (entity, listed) in enumerate(candidates(entities, ids)):
        if listed:
            found.add(identity(entity))
            yield entity
        elif sampled < count and (picked is None or at in picked):
            sampled += 1
            yield entity
        if sampled == count and len(found) == len(ids):
            return
    if len(found) < len(ids):
        raise ValueError(f"The following IDs could not be found: {', '.join(sorted(ids - found))}")
    raise ValueError("Number of rows requested is greater than number of rows in input file!")


def filter_attributes(entities, attributes, strategy):
    keep = strategy is Attributes.ALLOWLIST
    attributes = attributes | {"ID"} if keep else attributes - {"ID"}
    for entity in entities:
        yield {name: value for name, value in entity.items() if (name in attributes) is keep}
