-- Compares entities by where the values of an attribute stand in a taxonomy: Wu-Palmer similarity
-- (Z. Wu, M. Palmer: Verb semantics and lexical selection, ACL 1994, https://aclanthology.org/P94-1019/).
local runner = require("runner")

-- The most entities: their pairs are half of the square of that.
local MAX_ENTITIES = 1000

local HELP = [[
For each pair of entities, how alike their values of one attribute are, from 0 to 1:

*2 · depth(c) / (depth(a) + depth(b))*, where *c* is the lowest common ancestor of the values *a* and *b* in the
taxonomy. The depth of an element is the number of elements on the way from the root to it, both counted: that of
the root is 1. If the root means nothing, it is not counted: that of the root is 0, and what has only the root in
common is not alike.

Where an attribute has several values, each value is compared with the one of the other side that is most like it;
the mean of these is taken on each side, then of both sides (symmetric maximum mean). Where one of two entities has
no value, the similarity is `null`.

The taxonomy is a JSON object as QHAna has it: `type` (`tree`), `entities` (texts, or objects with an `ID`) and
`relations` (`source` is the parent of `target`).]]

local function shown(value)
  local text = type(value) == "string" and string.format("%q", value) or tostring(value)
  return #text > 60 and text:sub(1, 57) .. "…" or text
end

local function check(condition, ...)
  if not condition then
    error(string.format(...), 0)
  end
end

-- Its elements, each with its way from the root.
local function ways_of(taxonomy)
  check(type(taxonomy) == "table" and taxonomy.type == "tree", 'taxonomy: expected an object with type "tree", found type %s',
    shown(type(taxonomy) == "table" and taxonomy.type or type(taxonomy)))
  check(type(taxonomy.entities) == "table" and type(taxonomy.relations) == "table",
    "taxonomy: expected lists of entities and of relations")
  local elements, parents = {}, {}
  for at, element in ipairs(taxonomy.entities) do
    local id = type(element) == "table" and element.ID or element
    check(type(id) == "string", "taxonomy: entity %d: expected a text or an object with an ID, found %s", at, shown(id))
    elements[id] = true
  end
  for at, relation in ipairs(taxonomy.relations) do
    local source, target = relation.source, relation.target
    for _, id in ipairs({ source or false, target or false }) do
      check(elements[id], "taxonomy: relation %d: %s is no entity of the taxonomy", at, shown(id or "nothing"))
    end
    if source ~= target then
      check(parents[target] == nil or parents[target] == source, "taxonomy: %s has two parents, %s and %s: it is no tree",
        shown(target), shown(parents[target]), shown(source))
      parents[target] = source
    end
  end
  local ways, root = {}, nil
  for id in pairs(elements) do
    local way, seen, current = {}, {}, id
    while current do
      check(not seen[current], "taxonomy: %s is its own ancestor: it is no tree", shown(current))
      seen[current] = true
      table.insert(way, 1, current)
      current = parents[current]
    end
    check(root == nil or root == way[1], "taxonomy: %s and %s have no parent: a tree has one root", shown(root), shown(way[1]))
    root = way[1]
    ways[id] = way
  end
  return ways
end

-- A function that compares two elements.
local function comparison(ways, uncounted)
  local known = {}
  return function(a, b)
    local of_a = known[a]
    if of_a == nil then
      of_a = {}
      known[a] = of_a
    end
    if of_a[b] == nil then
      local way_a, way_b = ways[a], ways[b]
      local common = 0
      while common < #way_a and way_a[common + 1] == way_b[common + 1] do
        common = common + 1
      end
      local sum = #way_a + #way_b - 2 * uncounted
      -- Both are a root that means nothing.
      of_a[b] = sum == 0 and 1.0 or 2 * (common - uncounted) / sum
    end
    return of_a[b]
  end
end

-- The values of an entity that are something.
local function values_of(entity, at, attribute, ways)
  local value = entity[attribute]
  local values = type(value) == "table" and value or { value }
  local found = {}
  for _, one in ipairs(values) do
    if one ~= runner.null and one ~= "" then
      check(ways[one], "entity %s: %s %s is no element of the taxonomy", shown(entity.ID or at), shown(attribute), shown(one))
      table.insert(found, one)
    end
  end
  return found
end

local function mean_of_best(from, to, compare)
  local sum = 0
  for _, a in ipairs(from) do
    local best = 0
    for _, b in ipairs(to) do
      best = math.max(best, compare(a, b))
    end
    sum = sum + best
  end
  return sum / #from
end

local function similarity(a, b, compare)
  if #a == 0 or #b == 0 then
    return runner.null
  end
  return (mean_of_best(a, b, compare) + mean_of_best(b, a, compare)) / 2
end

local function decoded(task, key, what)
  local is_json, value = pcall(runner.decode, task:read(key))
  check(is_json, "%s: expected JSON: %s", what, tostring(value):match("[^\n]*"):gsub("^runtime error: ", ""))
  return value
end

local function run(task, p)
  local entities = decoded(task, "entitiesUrl", "entities")
  check(type(entities) == "table" and (#entities > 0 or next(entities) == nil), "entities: expected a JSON list of objects")
  check(#entities <= MAX_ENTITIES, "entities: there are %d, the limit is %d", #entities, MAX_ENTITIES)
  local ways = ways_of(decoded(task, "taxonomyUrl", "taxonomy"))
  local compare = comparison(ways, p.rootHasMeaning and 0 or 1)
  local values, ids = {}, {}
  for at, entity in ipairs(entities) do
    check(type(entity) == "table" and entity.ID ~= nil, "entities: entry %d: expected an object with an ID", at)
    check(not ids[entity.ID], "entities: the ID %s is there twice", shown(entity.ID))
    ids[entity.ID] = true
    values[at] = values_of(entity, at, p.attribute, ways)
  end
  local lines = {}
  for i = 1, #entities do
    for j = i, #entities do
      local a, b = entities[i].ID, entities[j].ID
      table.insert(lines, runner.encode({
        ID = a .. "_" .. b,
        href = "",
        entity_1_ID = a,
        entity_2_ID = b,
        similarity = similarity(values[i], values[j], compare),
      }))
    end
    task:progress(i, #entities, "entities")
  end
  local text = "[" .. table.concat(lines, ",\n") .. "]\n"
  task:output("similarities_" .. p.attribute .. ".json", text, "custom/attribute-similarities", "application/json")
  return string.format("Compared %d entities: %d pairs.", #entities, #lines)
end

local function data(key, title, description, data_type)
  return {
    key,
    title = title,
    description = description,
    type = "string",
    format = "uri",
    ["x-data"] = { dataType = data_type, contentType = { "application/json" } },
  }
end

return {
  name = "wu-palmer",
  version = "1.0.0",
  title = "Wu-Palmer similarity",
  description = "Compares entities by a taxonomy of the values of an attribute.",
  help = HELP,
  tags = { "preprocessing", "similarity-calculation", "taxonomy" },
  parameters = {
    data("entitiesUrl", "Entities URL", "URL of a JSON file with entities.", "entity/list"),
    data("taxonomyUrl", "Taxonomy URL", "URL of a JSON file with the taxonomy of the attribute's values.", "graph/taxonomy"),
    { "attribute", title = "Attribute", description = "The attribute whose values are compared.", type = "string", minLength = 1 },
    {
      "rootHasMeaning",
      title = "Root has meaning",
      description = "Whether to have only the root in common is to be alike.",
      type = "boolean",
      default = true,
    },
  },
  dataOutput = { { dataType = "custom/attribute-similarities", contentType = { "application/json" } } },
  run = run,
}
