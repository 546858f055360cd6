-- Plugins as nodes of pipelines. The host calls this chunk once for each interpreter; README.md is for authors of
-- plugins.
local list, encode = ...

--- What a node knows of its run: where it makes files, and how it reads those that it is given.
local Context = {}
Context.__index = Context

--- Makes a file of `content`; what it gives is an item.
function Context:file(name, content, data_type, content_type)
  local path = self.write(name, content, data_type, content_type)
  return { name = name, dataType = data_type, contentType = content_type, path = path }
end

-- Items that may be made of one.
local MOST = 65536

local nodes = {}

-- What is made of one item: `kept` are the values where there is one, `several` the lists where there are more.
local function keep(kept, several, failed, number, ok, value, more, ...)
  if not ok then
    failed[number] = tostring(value)
  elseif more ~= nil then
    several[number] = list({ value, more, ... })
  else
    kept[number] = value
  end
end

--- The context of a node that writes and reads files by these functions.
function nodes.context(directory, write, read)
  local context = { directory = directory, write = write }
  function context.read(_, item)
    return read(item.path)
  end
  return setmetatable(context, Context)
end

--- Works on `count` items. `with` is the same for all, or else `each` has one for each.
function nodes.items(plugin, items, count, with, each, context)
  local work, kept, several, failed = plugin.node, {}, {}, {}
  for number = 1, count do
    keep(kept, several, failed, number, pcall(work, items[number], with or (each and each[number]), context))
  end
  return kept, several, failed
end

--- Takes up to `most` values from what `source` gave. The second value is whether there are no more.
function nodes.pull(step, most)
  local values = {}
  for number = 1, most do
    local value = step()
    if value == nil then
      return values, true
    end
    values[number] = value
  end
  return values, false
end

--- Run as a task, a node works on the items that it was given.
function nodes.run(plugin, task, parameters)
  local lines, given = {}, parameters.items or {}
  local function add(...)
    for number = 1, select("#", ...) do
      local value = select(number, ...)
      if value ~= nil then
        lines[#lines + 1] = encode(value) .. "\n"
      end
    end
  end
  -- Its files become outputs.
  local context = nodes.context(task.directory, function(...)
    task:output(...)
  end, function(path)
    return task:read({ path = path })
  end)
  if plugin.setup then
    plugin.setup(parameters, context)
  end
  if plugin.source then
    for value in plugin.source(parameters, context) do
      add(value)
      if #lines == MOST then
        error("the source makes more than " .. MOST .. " items", 0)
      end
    end
  else
    for number = 1, #given do
      add(plugin.node(given[number], parameters, context))
    end
  end
  if plugin.cleanup then
    plugin.cleanup(context)
  end
  task:output("items.jsonl", table.concat(lines), "custom/items", "application/X-lines+json")
  return #given .. " in, " .. #lines .. " out"
end

return nodes
