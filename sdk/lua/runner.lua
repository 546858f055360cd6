-- The task handle of a run. The host calls this chunk with what only it can do, once for each run, and gives
-- the task that is returned to the plugin. README.md is for authors of plugins.
local run, notify, request, output, read = ...

local Task = {}
Task.__index = Task

--- Adds an entry to the log of the task.
function Task:log(text)
  notify("log", { text = tostring(text) })
end

--- Says how far the run is: `value` of `target` (100) in `unit` ("%").
function Task:progress(value, target, unit)
  notify("progress", { value = value, start = 0, target = target or 100, unit = unit or "%" })
end

--- Makes `content` an output called `name`. It is kept when the run has succeeded.
function Task:output(name, content, data_type, content_type)
  output(name, content, data_type, content_type)
end

--- After this run the task waits until somebody submits `step`; `values` prefill its form.
function Task:step(step, values, id)
  notify("step", { step = step, stepId = id or step, values = values or {} })
end

--- Adds a link that is shown with the task.
function Task:link(kind, href)
  notify("link", { type = kind, href = href })
end

--- The content of a file: the key of a parameter that is one, or what `fetch` or `call` gave.
function Task:read(file)
  local input = file
  if type(file) ~= "table" then
    input = self.inputs[file]
    if not input then
      error("the input " .. tostring(file) .. " is missing", 2)
    end
  end
  if not input.path then
    error("the input is several files: read each of them", 2)
  end
  return read(input.path)
end

--- Has the runner download a URL; the answer is a file for `read`.
function Task:fetch(url)
  return request("fetch", { url = url })
end

--- Runs another plugin and waits for its end. A called task that fails is an error.
function Task:call(plugin, parameters)
  local called = request("call", { plugin = plugin, parameters = parameters or {} })
  if called.status ~= "SUCCESS" then
    error("the called task of " .. plugin .. " failed: " .. called.log, 2)
  end
  return called
end

return setmetatable(run, Task)
